//! The metrics of captions: BLEU-1 to 4, ROUGE-L and CIDEr-D.
//!
//! The crate takes texts and returns numbers. It reads no files. The numbers equal those of the
//! Python package `pycocoevalcap` 1.2, so that figures are comparable.
//!
//! Captions pass through these modules: [`tokenize`] splits them as `PTBTokenizer` of Stanford
//! CoreNLP 3.4.1 does and removes punctuation, and [`CaptionScores::new`] computes the metrics.
//! `bleu`, `rouge_l` and `cider_d` have one metric each.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

#[cfg(test)]
mod reference_tests;
mod scores;
mod bleu;
mod cider_d;
mod rouge_l;
mod ngrams;
mod tokenizer;

pub use scores::{CaptionScores, ScoredImage};
pub use tokenizer::{TokenizerError, tokenize};
