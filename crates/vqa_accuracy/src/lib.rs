//! The accuracy metric of the VQA challenges.
//!
//! The metric is defined by Antol et al., "VQA: Visual Question Answering", section 3, and by Goyal
//! et al. for version 2. The crate takes texts and returns numbers. It reads no files.
//!
//! An answer passes through these modules: `normalise` brings it into the form that is compared,
//! [`answer_accuracy`] compares it with the human answers to the question, and [`AccuracyCounters`]
//! averages over questions.
//!
//! The numbers equal those of the organisers' program `vqaEval.py` at its commit c4e6a0e, so that
//! figures are comparable. Comments name its peculiarities where the code reproduces them.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

#[cfg(test)]
mod reference_tests;
mod counters;
mod accuracy;
mod normalise;
mod contractions;

pub use accuracy::answer_accuracy;
pub use counters::{AccuracyCounters, RunningMean};
