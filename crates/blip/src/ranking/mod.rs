//! Ranks given candidates like the `rank` inference of the original repository
//! (`models/blip_vqa.py`).
//!
//! The first token selects a shortlist. Each candidate of the shortlist is scored by its
//! label-smoothed cross-entropy.

pub(crate) mod scores;
pub(crate) mod target_loss;
pub(crate) mod trie;

use std::collections::HashMap;

use tch::{TchError, Tensor};

use crate::{
    batch::{
        rows::{RowError, RowSink},
        task::{RankedCandidate, Ranking, RowOutput},
    },
    decoder::state::DecoderState,
    generation::decode_context::DecodeContext,
    ranking::{
        scores::{CandidateChunk, score_level},
        target_loss::{Target, TargetLosses},
    },
    text::hypotheses::{MAX_HYPOTHESES, passes},
};

/// A row whose candidates are ranked.
#[derive(Debug)]
pub(crate) struct RankRow<'a> {
    /// The caller's index.
    pub(crate) row: usize,
    /// Position in computing order.
    pub(crate) position: i64,
    pub(crate) ranking: &'a Ranking,
}

/// Ranks the candidates of `rows`. A row is reported when its last candidate is scored. Returns the
/// number of decoder steps.
pub(crate) fn rank(
    context: DecodeContext<'_>,
    rows: &[RankRow<'_>],
    sink: &mut dyn RowSink,
) -> Result<u32, TchError> {
    let mut steps = 0;
    for rows in rows.chunks(MAX_HYPOTHESES) {
        steps += rank_together(context, rows, sink)?;
    }
    Ok(steps)
}

/// Ranks the candidates of at most [`MAX_HYPOTHESES`] rows. Returns the number of decoder steps.
fn rank_together(
    context: DecodeContext<'_>,
    rows: &[RankRow<'_>],
    sink: &mut dyn RowSink,
) -> Result<u32, TchError> {
    let DecodeContext { decoder, encoder_states, stopping, batch } = context;
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let selected = encoder_states.select(&positions)?;
    // All candidates of a row begin with the start token, so it is decoded once for each row.
    let mut start = decoder.start(&selected.states, selected.padding)?;
    let logits = decoder.step(&vec![stopping.start_token; rows.len()], &mut start)?;
    let chunks = shortlisted(&logits, rows)?;
    let chunks_of = |row_index| chunks.iter().filter(|chunk| chunk.row_index == row_index).count();
    let mut unscored: Vec<usize> = (0..rows.len()).map(chunks_of).collect();

    let mut steps = 1;
    let mut scores: Vec<Vec<(usize, f64)>> = vec![Vec::new(); rows.len()];
    for mut pass in passes(chunks, MAX_HYPOTHESES, CandidateChunk::width) {
        let is_active =
            |chunk: &CandidateChunk| rows.get(chunk.row_index).is_some_and(|row| !sink.is_cancelled(row.row));
        pass.retain(is_active);
        let scored = score_together(context, &start, pass, &mut steps, |row_index| {
            rows.get(row_index).is_none_or(|row| sink.is_cancelled(row.row))
        })?;
        let times = batch.timer.times();
        for chunk in scored {
            let row_index = chunk.row_index;
            let (Some(row), Some(scores), Some(left)) =
                (rows.get(row_index), scores.get_mut(row_index), unscored.get_mut(row_index))
            else {
                continue;
            };
            scores.extend(chunk.scores);
            *left -= 1;
            if *left == 0 {
                let outcome = ranked(scores, row.ranking.num_answers);
                let answer = |best| batch.answer(row.row, RowOutput::Ranked(best), times);
                sink.finish(row.row, outcome.map(answer));
            }
        }
    }
    Ok(steps)
}

/// Returns the shortlisted candidates in chunks of bounded size.
///
/// `logits` `[rows, vocabulary]` are those after the start token.
fn shortlisted(logits: &Tensor, rows: &[RankRow<'_>]) -> Result<Vec<CandidateChunk>, TchError> {
    let first_tokens = (0..).zip(rows).flat_map(|(hypothesis, row)| {
        row.ranking.candidates.iter().filter_map(move |ids| Some(Target { hypothesis, token: *ids.first()? }))
    });
    let mut first = TargetLosses::read(logits, &first_tokens.collect::<Vec<_>>())?.into_iter();

    let mut chunks = Vec::new();
    for (row_index, row) in rows.iter().enumerate() {
        let candidates = &row.ranking.candidates;
        let first: Vec<TargetLosses> = first.by_ref().take(candidates.len()).collect();
        let of_token: HashMap<i64, f64> = candidates
            .iter()
            .zip(&first)
            .filter_map(|(ids, loss)| Some((*ids.first()?, loss.smoothed())))
            .collect();
        let shortlist = shortlist(row.ranking, &first);
        let new = |members| CandidateChunk::new(row_index, row.ranking, members, &of_token);
        chunks.extend(shortlist.chunks(MAX_HYPOTHESES).map(new));
    }
    Ok(chunks)
}

/// Scores the candidates of `chunks` level by level of their tries. Chunks of cancelled rows are
/// dropped.
fn score_together(
    context: DecodeContext<'_>,
    start: &DecoderState,
    mut chunks: Vec<CandidateChunk>,
    steps: &mut u32,
    is_cancelled: impl Fn(usize) -> bool,
) -> Result<Vec<CandidateChunk>, TchError> {
    let mut scored = Vec::new();
    // Every chunk continues the single hypothesis of its row after the start token.
    let mut state = start.shallow_clone();
    let mut hypotheses_above: Vec<(i64, i64)> =
        chunks.iter().map(|chunk| (chunk.row_index as i64, chunk.row_index as i64)).collect();
    for depth in 0.. {
        if chunks.is_empty() {
            break;
        }
        *steps += 1;
        hypotheses_above = score_level(context, &mut state, &mut chunks, depth, &hypotheses_above)?;
        let mut unfinished = Vec::new();
        for (chunk, above) in chunks.into_iter().zip(hypotheses_above) {
            if is_cancelled(chunk.row_index) {
                continue;
            }
            match chunk.has_level(depth + 1) {
                true => unfinished.push((chunk, above)),
                false => scored.push(chunk),
            }
        }
        (chunks, hypotheses_above) = unfinished.into_iter().unzip();
    }
    Ok(scored)
}

/// Returns the candidates with the most likely first tokens. Ties go to the earlier candidate.
///
/// The result is sorted by token ids, so that candidates with a common prefix are adjacent.
fn shortlist(ranking: &Ranking, first: &[TargetLosses]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ranking.candidates.len()).collect();
    let log_probability =
        |candidate: usize| first.get(candidate).map_or(f32::NAN, |loss| loss.log_probability);
    order.sort_by(|&one, &other| log_probability(other).total_cmp(&log_probability(one)));
    order.truncate(ranking.shortlist.max(1) as usize);
    order.sort_by_key(|&candidate| ranking.candidates.get(candidate));
    order
}

/// Returns the best scored candidates, best first. Ties go to the earlier candidate.
///
/// A probability is the softmax of the score over the whole shortlist.
fn ranked(scores: &mut [(usize, f64)], num_answers: u32) -> Result<Vec<RankedCandidate>, RowError> {
    scores.sort_by(|(one, a), (other, b)| b.total_cmp(a).then(one.cmp(other)));
    let best = scores.first().map_or(f64::NAN, |&(_, score)| score);
    let total: f64 = scores.iter().map(|(_, score)| (score - best).exp()).sum();
    if !total.is_finite() {
        return Err(RowError::NotFinite);
    }
    let candidates = scores.iter().map(|&(candidate, score)| RankedCandidate {
        candidate,
        score: score as f32,
        probability: ((score - best).exp() / total) as f32,
    });
    Ok(candidates.take(num_answers.max(1) as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(shortlist: u32) -> Ranking {
        let candidates = [vec![7, 1], vec![5], vec![9], vec![5, 2], vec![6]].into();
        Ranking { candidates, shortlist, num_answers: 3, explain: false }
    }

    fn first(log_probabilities: &[f32]) -> Vec<TargetLosses> {
        let loss = |&log_probability: &f32| TargetLosses { log_probability, mean_log_probability: -9.0 };
        log_probabilities.iter().map(loss).collect()
    }

    #[test]
    fn shortlist_has_likeliest_first_tokens_sorted_by_token_ids() {
        let first = first(&[-1.0, -2.0, -9.0, -2.0, -3.0]);
        assert_eq!(shortlist(&ranking(3), &first), [1, 3, 0]);
        assert_eq!(shortlist(&ranking(2), &first), [1, 0], "the earlier of equally likely candidates");
        assert_eq!(
            shortlist(&ranking(128), &first),
            [1, 3, 4, 0, 2],
            "all candidates if the shortlist is longer"
        );
        assert_eq!(shortlist(&ranking(0), &first), [0], "at least one");
    }

    #[test]
    fn probabilities_are_softmax_over_whole_shortlist() {
        let mut scores = vec![(4, -3.0), (0, -1.0), (2, -2.0)];
        let total: f64 = [-1.0f64, -2.0, -3.0].map(f64::exp).iter().sum();
        let best = ranked(&mut scores, 2).unwrap();
        assert_eq!(best.iter().map(|best| best.candidate).collect::<Vec<_>>(), [0, 2]);
        assert!((f64::from(best[1].probability) - (-2.0f64).exp() / total).abs() < 1e-6);
        assert_eq!(ranked(&mut [(0, -1e5), (1, -2e5)], 1).unwrap()[0].probability, 1.0);
    }

    #[test]
    fn scores_that_are_nan_are_an_error_of_the_row() {
        assert_eq!(ranked(&mut [(0, f64::NAN), (1, -1.0)], 1), Err(RowError::NotFinite));
        assert_eq!(ranked(&mut [(0, -1.0), (1, f64::NAN)], 1), Err(RowError::NotFinite));
    }
}
