//! Answers that wait for their attention maps.

use crate::batch::rows::{ImageDigest, RowAnswer, RowError, RowInput, RowSink};

/// A row sink that holds the answers of rows to explain and the decoder steps of the batch, and
/// passes on everything else.
pub(crate) struct HeldAnswers<'a> {
    /// The rows of the caller.
    rows: &'a [RowInput<'a>],
    sink: &'a mut dyn RowSink,
    /// The held answers by row, in the order in which they ended.
    held: Vec<(usize, RowAnswer)>,
    /// The decoder steps of the batch.
    steps: u32,
}

impl<'a> HeldAnswers<'a> {
    /// Creates a sink that holds the answers of those `rows` that request a map. `sink` receives
    /// the other ones.
    pub(crate) fn new(rows: &'a [RowInput<'a>], sink: &'a mut dyn RowSink) -> Self {
        Self { rows, sink, held: Vec::new(), steps: 0 }
    }

    /// Returns the held answers, and the decoder steps of the batch.
    pub(crate) fn into_held(self) -> (Vec<(usize, RowAnswer)>, u32) {
        (self.held, self.steps)
    }
}

impl RowSink for HeldAnswers<'_> {
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>) {
        let explains = self.rows.get(row).is_some_and(|input| input.task.explains());
        match outcome {
            Ok(answer) if explains => self.held.push((row, answer)),
            other => self.sink.finish(row, other),
        }
    }

    fn is_cancelled(&self, row: usize) -> bool {
        self.sink.is_cancelled(row)
    }

    fn token(&mut self, row: usize, index: usize, token: i64) {
        self.sink.token(row, index, token);
    }

    fn decode_steps(&mut self, steps: u32) {
        self.steps = steps;
    }

    fn image_cached(&mut self, digest: &ImageDigest, bytes: usize) {
        self.sink.image_cached(digest, bytes);
    }

    fn key_values(&mut self, cached: usize, images: usize) {
        self.sink.key_values(cached, images);
    }

    fn image_evicted(&mut self, digest: &ImageDigest) {
        self.sink.image_evicted(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Generation, RowTask, Sequence, device::stage_timer::StageTimes, tests::golden_files::RowCollector,
    };

    fn answer() -> RowAnswer {
        let StageTimes { vision, text, decode } = StageTimes::default();
        RowAnswer { output: Sequence::default().into(), vision, text, decode, image_reused: false }
    }

    #[test]
    fn only_answers_to_explain_are_held() {
        let explained = RowTask::Generate(Generation { explain: true, ..Generation::GREEDY });
        let row = |task| RowInput { image: Some(0), token_ids: &[], task };
        let rows = [row(&explained), row(&RowTask::GREEDY), row(&explained)];
        let mut sink = RowCollector { cancelled: vec![2], ..RowCollector::for_rows(3) };
        let mut held = HeldAnswers::new(&rows, &mut sink);
        held.finish(0, Ok(answer()));
        held.finish(1, Ok(answer()));
        held.finish(2, Err(RowError::NotFinite));
        held.token(0, 3, 7);
        held.decode_steps(5);
        held.key_values(1, 2);
        assert_eq!([0, 1, 2].map(|row| held.is_cancelled(row)), [false, false, true]);
        assert_eq!(held.into_held(), (vec![(0, answer())], 5));
        assert_eq!(sink.outcomes, [None, Some(Ok(answer())), Some(Err(RowError::NotFinite))]);
        assert_eq!((sink.tokens, sink.steps, sink.cached), (vec![(0, 3, 7)], 0, 1));
    }
}
