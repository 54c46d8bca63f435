//! A batch while it is put together: what is in it, what fits, how long it would take.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cost::ServiceModel,
    ids::{FlightId, ImageSlot},
    limits::BatchLimits,
};

/// What matters of a flight when a batch is formed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) flight: FlightId,
    pub(crate) image: ImageSlot,
    /// Whether the engine holds the image's features.
    pub(crate) cached: bool,
    pub(crate) tokens: usize,
    /// The deadline to be met.
    pub(crate) deadline: Option<Instant>,
}

#[derive(Clone, Debug)]
pub(crate) struct Draft<'a> {
    model: &'a ServiceModel,
    limits: BatchLimits,
    pub(crate) rows: Vec<Candidate>,
    images: Vec<ImageSlot>,
    encoded: usize,
    longest: usize,
    soonest: Option<Instant>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(model: &'a ServiceModel, limits: BatchLimits) -> Self {
        Self { model, limits, rows: Vec::new(), images: Vec::new(), encoded: 0, longest: 0, soonest: None }
    }

    /// Whether the candidate would bring an image that has to be encoded.
    pub(crate) fn encodes(&self, candidate: &Candidate) -> bool {
        !candidate.cached && !self.images.contains(&candidate.image)
    }

    /// Whether the limits leave room. An empty draft has room for anything.
    pub(crate) fn has_room(&self, candidate: &Candidate) -> bool {
        let images = self.encoded + usize::from(self.encodes(candidate));
        let longest = self.longest.max(candidate.tokens);
        self.rows.is_empty()
            || (images <= self.limits.max_images
                && self.rows.len() < self.limits.max_questions
                && longest * (self.rows.len() + 1) <= self.limits.max_padded_tokens)
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

    pub(crate) fn push(&mut self, candidate: Candidate) {
        self.encoded += usize::from(self.encodes(&candidate));
        if !self.images.contains(&candidate.image) {
            self.images.push(candidate.image);
        }
        self.longest = self.longest.max(candidate.tokens);
        self.soonest = sooner(self.soonest, candidate.deadline);
        self.rows.push(candidate);
    }

    pub(crate) fn images(&self) -> &[ImageSlot] {
        &self.images
    }

    pub(crate) const fn longest(&self) -> usize {
        self.longest
    }

    pub(crate) fn contains(&self, flight: FlightId) -> bool {
        self.rows.iter().any(|row| row.flight == flight)
    }

    /// Predicted time of the batch as it is.
    pub(crate) fn time(&self) -> Duration {
        self.model.predict(self.encoded, self.rows.len())
    }

    /// The soonest deadline in the batch.
    pub(crate) const fn soonest(&self) -> Option<Instant> {
        self.soonest
    }

    /// Whether every deadline would be met, with the candidate added, by a batch that starts now.
    pub(crate) fn meets_deadlines_with(&self, candidate: &Candidate, now: Instant) -> bool {
        let time =
            self.model.predict(self.encoded + usize::from(self.encodes(candidate)), self.rows.len() + 1);
        sooner(self.soonest, candidate.deadline).is_none_or(|deadline| now + time <= deadline)
    }

    /// Whether the candidate, in time when it is run now, would be late in a batch of its own after this one.
    pub(crate) fn comes_too_late_after(&self, candidate: &Candidate, now: Instant) -> bool {
        let alone = self.model.predict(usize::from(!candidate.cached), 1);
        candidate.deadline.is_some_and(|deadline| now + self.time() + alone > deadline)
    }

    /// The part of its time that goes to what is in the batch, and would not be saved by another batch.
    pub(crate) fn efficiency(&self) -> f64 {
        let total = self.model.seconds(self.encoded, self.rows.len());
        if total > 0.0 { 1.0 - self.model.fixed_seconds() / total } else { 1.0 }
    }

    /// Whether further images would save next to nothing: the fixed time is a small part already.
    pub(crate) fn has_images_enough(&self, fixed_share: f64) -> bool {
        self.model.is_believed() && !self.rows.is_empty() && 1.0 - self.efficiency() <= fixed_share
    }

    /// Whether further questions would save next to nothing. Where features are not cached, the
    /// images of the batch would have to be encoded again for the questions left out.
    pub(crate) fn has_questions_enough(&self, fixed_share: f64, caches: bool) -> bool {
        let coefficients = self.model.coefficients();
        let again = if caches { 0.0 } else { coefficients.image * self.encoded as f64 };
        let sunk = self.model.fixed_seconds() + again;
        let questions = coefficients.question * self.rows.len() as f64;
        self.model.is_believed() && !self.rows.is_empty() && sunk <= fixed_share * (sunk + questions)
    }
}

fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
