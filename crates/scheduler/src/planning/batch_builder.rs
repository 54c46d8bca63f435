//! A batch under construction: its rows, the space that is left, and its predicted time.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cost::CostModel,
    ids::{ImageSlot, JobIndex},
    limits::BatchLimits,
};

/// A job that may become a row of the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowCandidate {
    pub(crate) job: JobIndex,
    pub(crate) image: ImageSlot,
    /// Whether the engine has the image's features in its cache.
    pub(crate) is_cached: bool,
    pub(crate) tokens: usize,
    /// Steps of all its hypotheses, at most.
    pub(crate) decode_steps: u64,
    /// The deadline that the row should meet.
    pub(crate) deadline: Option<Instant>,
}

/// A batch under construction.
#[derive(Clone, Debug)]
pub(crate) struct BatchBuilder<'a> {
    model: &'a CostModel,
    limits: BatchLimits,
    /// Steps of all hypotheses of the batch.
    max_decode_steps: u64,
    decode_steps: u64,
    pub(crate) rows: Vec<RowCandidate>,
    images: Vec<ImageSlot>,
    encoded: usize,
    longest: usize,
    earliest_deadline: Option<Instant>,
}

impl<'a> BatchBuilder<'a> {
    pub(crate) fn new(model: &'a CostModel, limits: BatchLimits, max_decode_steps: u64) -> Self {
        Self {
            model,
            limits,
            max_decode_steps,
            decode_steps: 0,
            rows: Vec::new(),
            images: Vec::new(),
            encoded: 0,
            longest: 0,
            earliest_deadline: None,
        }
    }

    /// Returns whether the candidate adds an image to encode.
    pub(crate) fn encodes(&self, candidate: &RowCandidate) -> bool {
        !candidate.is_cached && !self.images.contains(&candidate.image)
    }

    /// Returns whether the candidate fits into the limits. Everything fits into an empty batch.
    pub(crate) fn has_room(&self, candidate: &RowCandidate) -> bool {
        let images = self.encoded + usize::from(self.encodes(candidate));
        let longest = self.longest.max(candidate.tokens);
        self.rows.is_empty()
            || (images <= self.limits.max_images
                && self.rows.len() < self.limits.max_questions
                && longest * (self.rows.len() + 1) <= self.limits.max_padded_tokens
                && self.decode_steps.saturating_add(candidate.decode_steps) <= self.max_decode_steps)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= self.limits.max_questions
    }

    pub(crate) fn has_rows_for(&self, more: usize) -> bool {
        self.rows.len() + more <= self.limits.max_questions
    }

    pub(crate) fn has_image_room(&self) -> bool {
        self.encoded < self.limits.max_images
    }

    pub(crate) fn push(&mut self, candidate: RowCandidate) {
        self.encoded += usize::from(self.encodes(&candidate));
        if !self.images.contains(&candidate.image) {
            self.images.push(candidate.image);
        }
        self.longest = self.longest.max(candidate.tokens);
        self.decode_steps = self.decode_steps.saturating_add(candidate.decode_steps);
        self.earliest_deadline = earlier(self.earliest_deadline, candidate.deadline);
        self.rows.push(candidate);
    }

    pub(crate) fn images(&self) -> &[ImageSlot] {
        &self.images
    }

    pub(crate) const fn longest(&self) -> usize {
        self.longest
    }

    pub(crate) fn contains(&self, job: JobIndex) -> bool {
        self.rows.iter().any(|row| row.job == job)
    }

    /// Returns the predicted time of the batch.
    pub(crate) fn time(&self) -> Duration {
        self.model.predict(self.encoded, self.rows.len())
    }

    /// Returns the earliest deadline in the batch.
    pub(crate) const fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest_deadline
    }

    /// Returns whether a batch with the candidate, started now, would meet every deadline.
    pub(crate) fn meets_deadlines_with(&self, candidate: &RowCandidate, now: Instant) -> bool {
        let time =
            self.model.predict(self.encoded + usize::from(self.encodes(candidate)), self.rows.len() + 1);
        earlier(self.earliest_deadline, candidate.deadline).is_none_or(|deadline| now + time <= deadline)
    }

    /// Returns whether the candidate would be late in a batch after this one.
    pub(crate) fn is_late_after(&self, candidate: &RowCandidate, now: Instant) -> bool {
        let alone = self.model.predict(usize::from(!candidate.is_cached), 1);
        candidate.deadline.is_some_and(|deadline| now + self.time() + alone > deadline)
    }

    /// Returns the fraction of the predicted time that depends on the batch's content.
    pub(crate) fn efficiency(&self) -> f64 {
        let total = self.model.seconds(self.encoded, self.rows.len());
        if total > 0.0 { 1.0 - self.model.fixed_seconds() / total } else { 1.0 }
    }

    /// Returns whether further images would save little, because the fixed time is a small
    /// fraction.
    pub(crate) fn has_enough_images(&self, overhead_fraction: f64) -> bool {
        self.model.is_calibrated() && !self.rows.is_empty() && 1.0 - self.efficiency() <= overhead_fraction
    }

    /// Returns whether further questions would save little.
    ///
    /// If the engine does not cache features, a later batch must encode this batch's images again
    /// for the questions left out. That time then counts as fixed.
    pub(crate) fn has_enough_questions(&self, overhead_fraction: f64, is_caching: bool) -> bool {
        let coefficients = self.model.coefficients();
        let repeated_encoding = if is_caching { 0.0 } else { coefficients.image * self.encoded as f64 };
        let fixed = self.model.fixed_seconds() + repeated_encoding;
        let questions = coefficients.question * self.rows.len() as f64;
        self.model.is_calibrated()
            && !self.rows.is_empty()
            && fixed <= overhead_fraction * (fixed + questions)
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
