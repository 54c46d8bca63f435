//! The accuracy of answers to visual questions, by the metric of the VQA challenges (Antol et al., "VQA: Visual Question
//! Answering", section 3; Goyal et al. for version 2).
//!
//! No files and no servers: texts in, numbers out. Read in this order: [`normalise`] (what counts as the same answer),
//! [`accuracy`](accuracy()) (one question), [`Tally`] (many).
//!
//! The numbers are those of the organisers' program `vqaEval.py` at its commit c4e6a0e, whose oddities are kept and named
//! where they occur: figures are only worth comparing if everybody computes the same.

mod accuracy;
mod contractions;
pub mod normalise;
#[cfg(test)]
mod official;
mod counters;

pub use accuracy::accuracy;
pub use counters::{Mean, Tally};
