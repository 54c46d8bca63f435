//! Beam search over one row.
//!
//! It equals `GenerationMixin._beam_search` of `transformers` 5.17 with `early_stopping` off.

use crate::batch::task::{Generation, Sequence};

/// Sum of a beam without a sequence. All beams begin alike, so only the first may be continued.
const UNUSED_BEAM_SUM: f32 = -1.0e9;

/// A token that may continue a beam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Continuation {
    /// Sum of the processed log-probabilities of the hypothesis, this token included.
    pub(crate) sum: f32,
    /// Index of the continued beam.
    pub(crate) beam: usize,
    pub(crate) token: i64,
}

/// A hypothesis that is continued.
#[derive(Debug, Clone)]
pub(crate) struct Beam {
    pub(crate) token_ids: Vec<i64>,
    pub(crate) sum: f32,
    /// Index of the beam of the previous step that it continues.
    pub(crate) parent: usize,
}

/// A completed hypothesis. Its score is its sum divided by a power of its length.
#[derive(Debug)]
struct Finished {
    token_ids: Vec<i64>,
    score: f32,
}

/// The state of a search.
#[derive(Debug)]
pub(crate) struct BeamSearch {
    beams: Vec<Beam>,
    /// Completed hypotheses, best first. There are at most as many as beams.
    finished: Vec<Finished>,
    length: i64,
    limit: i64,
    length_penalty: f64,
    stop_token: i64,
}

impl BeamSearch {
    /// Begins a search for sequences of at most `limit` tokens.
    pub(crate) fn new(options: &Generation, limit: i64, stop_token: i64) -> Self {
        let beam = |parent| Beam {
            token_ids: Vec::new(),
            sum: if parent == 0 { 0.0 } else { UNUSED_BEAM_SUM },
            parent,
        };
        Self {
            beams: (0..options.num_beams.max(1) as usize).map(beam).collect(),
            finished: Vec::new(),
            length: 0,
            limit,
            length_penalty: f64::from(options.length_penalty),
            stop_token,
        }
    }

    /// Returns the beams, best first. Their number is constant.
    pub(crate) fn beams(&self) -> &[Beam] {
        &self.beams
    }

    /// Returns the number of continuations that a step needs. With this number, enough beams remain
    /// if every beam ends at once.
    pub(crate) fn width(beams: usize) -> usize {
        2 * beams
    }

    /// Takes a step and returns whether it was the last one.
    ///
    /// `best` are the [`Self::width`] best continuations of all beams, best first.
    pub(crate) fn advance(&mut self, best: &[Continuation]) -> bool {
        self.length += 1;
        let count = self.beams.len();
        let at_limit = self.length >= self.limit;
        let stop_token = self.stop_token;
        let ends = |continuation: &Continuation| at_limit || continuation.token == stop_token;
        let divisor = (self.length as f64).powf(self.length_penalty) as f32;

        // A completed continuation counts only among the best ones, as many as there are beams.
        for continuation in best.iter().take(count).filter(|continuation| ends(continuation)) {
            let token_ids = self.continued_token_ids(continuation);
            self.finished.push(Finished { token_ids, score: continuation.sum / divisor });
        }
        self.finished.sort_by(|one, other| other.score.total_cmp(&one.score));
        self.finished.truncate(count);

        let mut next: Vec<Beam> = best
            .iter()
            .filter(|continuation| !ends(continuation))
            .take(count)
            .map(|continuation| Beam {
                token_ids: self.continued_token_ids(continuation),
                sum: continuation.sum,
                parent: continuation.beam,
            })
            .collect();
        let Some(leader) = next.first().cloned() else { return true };
        let worst = self.finished.last().map(|finished| finished.score);
        let complete = self.finished.len() == count;
        // If the vocabulary is smaller than the number of beams, some beams have no sequence.
        next.resize(count, Beam { sum: UNUSED_BEAM_SUM, ..leader.clone() });
        self.beams = next;
        complete && worst.is_some_and(|worst| leader.sum / divisor <= worst)
    }

    /// Returns the token ids of a continuation.
    fn continued_token_ids(&self, continuation: &Continuation) -> Vec<i64> {
        let before = self.beams.get(continuation.beam).map_or(&[][..], |beam| &beam.token_ids);
        [before, &[continuation.token]].concat()
    }

    /// Returns the best `count` completed hypotheses, best first.
    pub(crate) fn sequences(&mut self, count: usize) -> Vec<Sequence> {
        let finished = std::mem::take(&mut self.finished);
        let next_scores: Vec<f32> =
            finished.iter().skip(1).map(|next| next.score).chain([f32::NEG_INFINITY]).collect();
        let sequences = finished.into_iter().zip(next_scores).map(|(finished, next)| Sequence {
            token_ids: finished.token_ids,
            score: finished.score,
            margin: finished.score - next,
        });
        sequences.take(count.max(1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: i64 = 0;

    fn search(num_beams: u32, length_penalty: f32, limit: i64) -> BeamSearch {
        BeamSearch::new(&Generation { num_beams, length_penalty, ..Generation::GREEDY }, limit, STOP)
    }

    fn continuations(best: &[(f32, usize, i64)]) -> Vec<Continuation> {
        best.iter().map(|&(sum, beam, token)| Continuation { sum, beam, token }).collect()
    }

    fn found(mut search: BeamSearch, count: usize) -> Vec<(Vec<i64>, f32)> {
        search.sequences(count).into_iter().map(|sequence| (sequence.token_ids, sequence.score)).collect()
    }

    #[test]
    fn first_step_continues_only_the_first_beam() {
        let sums: Vec<f32> = search(3, 1.0, 9).beams().iter().map(|beam| beam.sum).collect();
        assert_eq!(sums, [0.0, UNUSED_BEAM_SUM, UNUSED_BEAM_SUM]);
    }

    #[test]
    fn completed_hypothesis_among_the_best_is_returned() {
        let mut search = search(2, 1.0, 9);
        let best = continuations(&[(-1.0, 0, STOP), (-1.5, 0, 7), (-2.0, 0, 8), (-3.0, 0, 9)]);
        assert!(!search.advance(&best));
        let texts: Vec<&[i64]> = search.beams().iter().map(|beam| &beam.token_ids[..]).collect();
        assert_eq!(texts, [&[7], &[8]]);
        assert_eq!(found(search, 2), [(vec![STOP], -1.0)]);
    }

    #[test]
    fn completed_hypothesis_not_among_the_best_is_dropped() {
        let mut search = search(2, 1.0, 9);
        let best = continuations(&[(-1.0, 0, 5), (-1.5, 0, 7), (-2.0, 0, STOP), (-3.0, 0, 9)]);
        assert!(!search.advance(&best));
        assert!(found(search, 2).is_empty());
    }

    #[test]
    fn reordered_beams_have_the_index_of_their_parent() {
        let mut search = search(2, 1.0, 9);
        search.advance(&continuations(&[(-1.0, 0, 5), (-1.5, 0, 7), (-2.0, 0, 8), (-3.0, 0, 9)]));
        search.advance(&continuations(&[(-2.0, 1, 3), (-2.1, 0, 4), (-3.0, 0, 8), (-4.0, 1, 9)]));
        let beams: Vec<(&[i64], usize)> =
            search.beams().iter().map(|beam| (&beam.token_ids[..], beam.parent)).collect();
        assert_eq!(beams, [(&[7, 3][..], 1), (&[5, 4][..], 0)]);
    }

    #[test]
    fn search_ends_when_no_beam_can_improve() {
        let mut search = search(2, 0.0, 9);
        assert!(!search.advance(&continuations(&[
            (-1.0, 0, STOP),
            (-1.5, 0, 7),
            (-2.0, 0, 8),
            (-3.0, 0, 9)
        ])));
        let best = continuations(&[(-1.6, 0, STOP), (-1.7, 0, 5), (-2.5, 1, 6), (-3.0, 1, 9)]);
        assert!(search.advance(&best));
        assert_eq!(found(search, 2), [(vec![STOP], -1.0), (vec![7, STOP], -1.6)]);
    }

    #[test]
    fn length_penalty_above_zero_prefers_longer_sequences() {
        for (length_penalty, first) in [(0.0, vec![STOP]), (2.0, vec![7, STOP])] {
            let mut search = search(2, length_penalty, 2);
            search.advance(&continuations(&[(-1.0, 0, STOP), (-1.1, 0, 7), (-2.0, 0, 8), (-3.0, 0, 9)]));
            let best = continuations(&[(-1.2, 0, STOP), (-1.7, 0, 5), (-2.5, 1, 6), (-3.0, 1, 9)]);
            assert!(search.advance(&best), "every beam ends at the limit");
            assert_eq!(found(search, 1)[0].0, first);
        }
    }

    #[test]
    fn sequence_cut_at_the_limit_has_no_stop_token() {
        let mut search = search(2, 1.0, 1);
        assert!(search.advance(&continuations(&[(-1.0, 0, 5), (-1.1, 0, 7), (-2.0, 0, 8), (-3.0, 0, 9)])));
        assert_eq!(found(search, 2), [(vec![5], -1.0), (vec![7], -1.1)]);
    }

    #[test]
    fn too_few_continuations_leave_beams_unused() {
        let mut search = search(3, 1.0, 9);
        assert!(!search.advance(&continuations(&[(-1.0, 0, 5), (-2.0, 0, STOP)])));
        let sums: Vec<f32> = search.beams().iter().map(|beam| beam.sum).collect();
        assert_eq!(sums, [-1.0, UNUSED_BEAM_SUM, UNUSED_BEAM_SUM]);
    }
}
