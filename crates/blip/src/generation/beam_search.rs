//! Beam search over one row: which hypotheses go on and which are finished, in the meaning of `transformers` 5.17
//! (`GenerationMixin._beam_search`) with `early_stopping` off.

use crate::batch::task::{Generation, Sequence};

/// What a beam starts with that has no text of its own yet: all beams begin alike, so that only the first may be continued.
const NOTHING: f32 = -1.0e9;

/// One way to go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Continuation {
    /// Sum of the processed log-probabilities of the hypothesis' tokens, this one included.
    pub(crate) sum: f32,
    /// The beam that it continues.
    pub(crate) beam: usize,
    pub(crate) token: i64,
}

/// A hypothesis that goes on.
#[derive(Debug, Clone)]
pub(crate) struct Beam {
    pub(crate) token_ids: Vec<i64>,
    pub(crate) sum: f32,
    /// The beam of the step before that it continues.
    pub(crate) parent: usize,
}

/// A hypothesis that has ended; its score is its sum divided by a power of its length.
#[derive(Debug)]
struct Finished {
    token_ids: Vec<i64>,
    score: f32,
}

#[derive(Debug)]
pub(crate) struct BeamSearch {
    beams: Vec<Beam>,
    /// The best first; never more than there are beams.
    finished: Vec<Finished>,
    length: i64,
    limit: i64,
    length_penalty: f64,
    stop_token: i64,
}

impl BeamSearch {
    /// Begins a search for sequences of at most `limit` tokens.
    pub(crate) fn new(options: &Generation, limit: i64, stop_token: i64) -> Self {
        let beam =
            |parent| Beam { token_ids: Vec::new(), sum: if parent == 0 { 0.0 } else { NOTHING }, parent };
        Self {
            beams: (0..options.num_beams.max(1) as usize).map(beam).collect(),
            finished: Vec::new(),
            length: 0,
            limit,
            length_penalty: f64::from(options.length_penalty),
            stop_token,
        }
    }

    /// The hypotheses that go on, the best first; always equally many.
    pub(crate) fn beams(&self) -> &[Beam] {
        &self.beams
    }

    /// Continuations that a step has to find: with so many, enough are left to go on when every beam ends at once.
    pub(crate) fn width(beams: usize) -> usize {
        2 * beams
    }

    /// Takes a step: `best` are the [`Self::width`] best continuations of all beams, the best first. Says whether that was
    /// the last one.
    pub(crate) fn advance(&mut self, best: &[Continuation]) -> bool {
        self.length += 1;
        let count = self.beams.len();
        let at_limit = self.length >= self.limit;
        let stop_token = self.stop_token;
        let ends = |continuation: &Continuation| at_limit || continuation.token == stop_token;
        let divisor = (self.length as f64).powf(self.length_penalty) as f32;

        // One that ends counts only if it is among the best as many as there are beams.
        for continuation in best.iter().take(count).filter(|continuation| ends(continuation)) {
            let token_ids = self.continued(continuation);
            self.finished.push(Finished { token_ids, score: continuation.sum / divisor });
        }
        self.finished.sort_by(|one, other| other.score.total_cmp(&one.score));
        self.finished.truncate(count);

        let mut next: Vec<Beam> = best
            .iter()
            .filter(|continuation| !ends(continuation))
            .take(count)
            .map(|continuation| Beam {
                token_ids: self.continued(continuation),
                sum: continuation.sum,
                parent: continuation.beam,
            })
            .collect();
        let Some(leader) = next.first().cloned() else { return true };
        let worst = self.finished.last().map(|finished| finished.score);
        let complete = self.finished.len() == count;
        // A vocabulary smaller than the beams leaves some without a text of their own.
        next.resize(count, Beam { sum: NOTHING, ..leader.clone() });
        self.beams = next;
        complete && worst.is_some_and(|worst| leader.sum / divisor <= worst)
    }

    fn continued(&self, continuation: &Continuation) -> Vec<i64> {
        let before = self.beams.get(continuation.beam).map_or(&[][..], |beam| &beam.token_ids);
        [before, &[continuation.token]].concat()
    }

    /// The best `count` of the finished hypotheses, the best first.
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
    fn only_the_first_beam_is_continued_at_first() {
        let sums: Vec<f32> = search(3, 1.0, 9).beams().iter().map(|beam| beam.sum).collect();
        assert_eq!(sums, [0.0, NOTHING, NOTHING]);
    }

    #[test]
    fn an_end_among_the_best_is_kept_and_the_others_go_on() {
        let mut search = search(2, 1.0, 9);
        let best = continuations(&[(-1.0, 0, STOP), (-1.5, 0, 7), (-2.0, 0, 8), (-3.0, 0, 9)]);
        assert!(!search.advance(&best));
        let texts: Vec<&[i64]> = search.beams().iter().map(|beam| &beam.token_ids[..]).collect();
        assert_eq!(texts, [&[7], &[8]]);
        assert_eq!(found(search, 2), [(vec![STOP], -1.0)]);
    }

    #[test]
    fn an_end_that_is_not_among_the_best_is_lost() {
        let mut search = search(2, 1.0, 9);
        let best = continuations(&[(-1.0, 0, 5), (-1.5, 0, 7), (-2.0, 0, STOP), (-3.0, 0, 9)]);
        assert!(!search.advance(&best));
        assert!(found(search, 2).is_empty());
    }

    #[test]
    fn beams_that_change_places_say_whom_they_continue() {
        let mut search = search(2, 1.0, 9);
        search.advance(&continuations(&[(-1.0, 0, 5), (-1.5, 0, 7), (-2.0, 0, 8), (-3.0, 0, 9)]));
        search.advance(&continuations(&[(-2.0, 1, 3), (-2.1, 0, 4), (-3.0, 0, 8), (-4.0, 1, 9)]));
        let beams: Vec<(&[i64], usize)> =
            search.beams().iter().map(|beam| (&beam.token_ids[..], beam.parent)).collect();
        assert_eq!(beams, [(&[7, 3][..], 1), (&[5, 4][..], 0)]);
    }

    #[test]
    fn the_search_ends_when_the_rest_cannot_become_better() {
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
    fn a_length_penalty_above_zero_favours_longer_ones() {
        for (length_penalty, first) in [(0.0, vec![STOP]), (2.0, vec![7, STOP])] {
            let mut search = search(2, length_penalty, 2);
            search.advance(&continuations(&[(-1.0, 0, STOP), (-1.1, 0, 7), (-2.0, 0, 8), (-3.0, 0, 9)]));
            let best = continuations(&[(-1.2, 0, STOP), (-1.7, 0, 5), (-2.5, 1, 6), (-3.0, 1, 9)]);
            assert!(search.advance(&best), "everything ends at the limit");
            assert_eq!(found(search, 1)[0].0, first);
        }
    }

    #[test]
    fn what_is_cut_at_the_limit_has_no_stop_token() {
        let mut search = search(2, 1.0, 1);
        assert!(search.advance(&continuations(&[(-1.0, 0, 5), (-1.1, 0, 7), (-2.0, 0, 8), (-3.0, 0, 9)])));
        assert_eq!(found(search, 2), [(vec![5], -1.0), (vec![7], -1.1)]);
    }

    #[test]
    fn fewer_continuations_than_beams_leave_the_others_without_a_chance() {
        let mut search = search(3, 1.0, 9);
        assert!(!search.advance(&continuations(&[(-1.0, 0, 5), (-2.0, 0, STOP)])));
        let sums: Vec<f32> = search.beams().iter().map(|beam| beam.sum).collect();
        assert_eq!(sums, [-1.0, NOTHING, NOTHING]);
    }
}
