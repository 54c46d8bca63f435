//! The batch limits of an engine: halved after it runs out of memory, then slowly raised.

use crate::limits::BatchLimits;

/// Consecutive successful batches before the limits grow by an eighth.
const GOOD_BATCHES: u32 = 32;

/// The current batch limits of an engine.
#[derive(Clone, Debug)]
pub(crate) struct MemoryLimit {
    configured: BatchLimits,
    current: BatchLimits,
    good_batches: u32,
}

impl MemoryLimit {
    pub(crate) const fn new(configured: BatchLimits) -> Self {
        Self { configured, current: configured, good_batches: 0 }
    }

    pub(crate) const fn get(&self) -> BatchLimits {
        self.current
    }

    pub(crate) fn is_lowered(&self) -> bool {
        self.current != self.configured
    }

    /// Lowers the limits to half of a batch that was too large.
    pub(crate) fn lower(&mut self, images: usize, questions: usize, padded_tokens: usize) {
        // A size below 2 was not the cause.
        let halve = |size: usize, current: usize| if size < 2 { current } else { current.min(size / 2) };
        self.current = BatchLimits {
            max_images: halve(images, self.current.max_images),
            max_questions: halve(questions, self.current.max_questions),
            max_padded_tokens: halve(padded_tokens, self.current.max_padded_tokens),
        };
        self.good_batches = 0;
    }

    /// Counts a successful batch.
    pub(crate) fn recover(&mut self) {
        if !self.is_lowered() {
            return;
        }
        self.good_batches += 1;
        if self.good_batches >= GOOD_BATCHES {
            self.good_batches = 0;
            let grow = |current: usize, configured: usize| {
                (current + (current / 8).max(1)).min(configured.max(current))
            };
            self.current = BatchLimits {
                max_images: grow(self.current.max_images, self.configured.max_images),
                max_questions: grow(self.current.max_questions, self.configured.max_questions),
                max_padded_tokens: grow(self.current.max_padded_tokens, self.configured.max_padded_tokens),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: BatchLimits = BatchLimits { max_images: 16, max_questions: 64, max_padded_tokens: 2048 };

    #[test]
    fn out_of_memory_halves_limit_down_to_one() {
        let mut limit = MemoryLimit::new(FULL);
        limit.lower(16, 40, 400);
        assert_eq!(limit.get(), BatchLimits { max_images: 8, max_questions: 20, max_padded_tokens: 200 });
        for _ in 0..10 {
            let BatchLimits { max_images, max_questions, max_padded_tokens } = limit.get();
            limit.lower(max_images, max_questions, max_padded_tokens);
        }
        assert_eq!(limit.get(), BatchLimits { max_images: 1, max_questions: 1, max_padded_tokens: 1 });
    }

    #[test]
    fn limit_recovers_by_an_eighth_up_to_configured_limit() {
        let mut limit = MemoryLimit::new(FULL);
        limit.lower(16, 64, 2048);
        for _ in 0..31 {
            limit.recover();
        }
        assert_eq!(limit.get().max_questions, 32);
        limit.recover();
        assert_eq!(limit.get().max_questions, 36);
        for _ in 0..10_000 {
            limit.recover();
        }
        assert_eq!(limit.get(), FULL);
    }
}
