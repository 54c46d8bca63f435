//! Ranking given answers, as the original's `rank` inference does (`models/blip_vqa.py` of BLIP): a shortlist by the first
//! token, then the label-smoothed cross-entropy of each candidate that is on it.

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

/// A row whose candidates are compared.
#[derive(Debug)]
pub(crate) struct RankRow<'a> {
    /// The caller's index.
    pub(crate) row: usize,
    /// Its position in the batch's computing order.
    pub(crate) position: i64,
    pub(crate) ranking: &'a Ranking,
}

/// Ranks the candidates of `rows`, each reported as its last one is scored. Returns the decoder's steps.
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

fn rank_together(
    context: DecodeContext<'_>,
    rows: &[RankRow<'_>],
    sink: &mut dyn RowSink,
) -> Result<u32, TchError> {
    let DecodeContext { decoder, encoder_states, stopping, batch } = context;
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let selected = encoder_states.select(&positions)?;
    // The start token is every candidate's: decoded once for all of a row.
    let mut start = decoder.start(&selected.states, selected.padding)?;
    let logits = decoder.step(&vec![stopping.start_token; rows.len()], &mut start)?;
    let chunks = shortlisted(&logits, rows)?;
    let chunks_of = |owner| chunks.iter().filter(|chunk| chunk.owner == owner).count();
    let mut unscored: Vec<usize> = (0..rows.len()).map(chunks_of).collect();

    let mut steps = 1;
    let mut scores: Vec<Vec<(usize, f64)>> = vec![Vec::new(); rows.len()];
    for mut pass in passes(chunks, MAX_HYPOTHESES, CandidateChunk::width) {
        let waited_for =
            |chunk: &CandidateChunk| rows.get(chunk.owner).is_some_and(|row| !sink.is_cancelled(row.row));
        pass.retain(waited_for);
        let scored = score_together(context, &start, pass, &mut steps, |owner| {
            rows.get(owner).is_none_or(|row| sink.is_cancelled(row.row))
        })?;
        let times = batch.timer.times();
        for chunk in scored {
            let owner = chunk.owner;
            let (Some(row), Some(scores), Some(left)) =
                (rows.get(owner), scores.get_mut(owner), unscored.get_mut(owner))
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

/// The candidates that are compared in full, in chunks of a bounded size, from the `logits` `[rows, vocabulary]` behind the start
/// token.
fn shortlisted(logits: &Tensor, rows: &[RankRow<'_>]) -> Result<Vec<CandidateChunk>, TchError> {
    let first_tokens = (0..).zip(rows).flat_map(|(hypothesis, row)| {
        row.ranking.candidates.iter().filter_map(move |ids| Some(Target { hypothesis, token: *ids.first()? }))
    });
    let mut first = TargetLosses::read(logits, &first_tokens.collect::<Vec<_>>())?.into_iter();

    let mut chunks = Vec::new();
    for (owner, row) in rows.iter().enumerate() {
        let candidates = &row.ranking.candidates;
        let first: Vec<TargetLosses> = first.by_ref().take(candidates.len()).collect();
        let of_token: HashMap<i64, f64> = candidates
            .iter()
            .zip(&first)
            .filter_map(|(ids, loss)| Some((*ids.first()?, loss.smoothed())))
            .collect();
        let shortlist = shortlist(row.ranking, &first);
        let new = |members| CandidateChunk::new(owner, row.ranking, members, &of_token);
        chunks.extend(shortlist.chunks(MAX_HYPOTHESES).map(new));
    }
    Ok(chunks)
}

/// Scores the candidates of `chunks`, level by level of their tries; those of cancelled rows are dropped on the way.
fn score_together(
    context: DecodeContext<'_>,
    start: &DecoderState,
    mut chunks: Vec<CandidateChunk>,
    steps: &mut u32,
    is_cancelled: impl Fn(usize) -> bool,
) -> Result<Vec<CandidateChunk>, TchError> {
    let mut scored = Vec::new();
    // Every chunk goes on from the one hypothesis that its row had at the start.
    let mut state = start.shallow_clone();
    let mut hypotheses_above: Vec<(i64, i64)> =
        chunks.iter().map(|chunk| (chunk.owner as i64, chunk.owner as i64)).collect();
    for depth in 0.. {
        if chunks.is_empty() {
            break;
        }
        *steps += 1;
        hypotheses_above = score_level(context, &mut state, &mut chunks, depth, &hypotheses_above)?;
        let mut going_on = Vec::new();
        for (chunk, above) in chunks.into_iter().zip(hypotheses_above) {
            if is_cancelled(chunk.owner) {
                continue;
            }
            match chunk.has_level(depth + 1) {
                true => going_on.push((chunk, above)),
                false => scored.push(chunk),
            }
        }
        (chunks, hypotheses_above) = going_on.into_iter().unzip();
    }
    Ok(scored)
}

/// The candidates whose first tokens are the likeliest; of equally likely ones, those that come first in the list. In the
/// order of their tokens, so that neighbours share their beginnings.
fn shortlist(ranking: &Ranking, first: &[TargetLosses]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ranking.candidates.len()).collect();
    let log_probability =
        |candidate: usize| first.get(candidate).map_or(f32::NAN, |loss| loss.log_probability);
    order.sort_by(|&one, &other| log_probability(other).total_cmp(&log_probability(one)));
    order.truncate(ranking.shortlist.max(1) as usize);
    order.sort_by_key(|&candidate| ranking.candidates.get(candidate));
    order
}

/// The best of the scored candidates, the best first; of equals, the one that comes first in the list.
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
        Ranking { candidates, shortlist, num_answers: 3 }
    }

    fn first(log_probabilities: &[f32]) -> Vec<TargetLosses> {
        let loss = |&log_probability: &f32| TargetLosses { log_probability, mean_log_probability: -9.0 };
        log_probabilities.iter().map(loss).collect()
    }

    #[test]
    fn the_shortlist_has_the_likeliest_first_tokens_with_neighbours_side_by_side() {
        let first = first(&[-1.0, -2.0, -9.0, -2.0, -3.0]);
        assert_eq!(shortlist(&ranking(3), &first), [1, 3, 0]);
        assert_eq!(shortlist(&ranking(2), &first), [1, 0], "of equally likely ones, the earlier");
        assert_eq!(shortlist(&ranking(128), &first), [1, 3, 4, 0, 2], "all of a short list");
        assert_eq!(shortlist(&ranking(0), &first), [0], "never none");
    }

    #[test]
    fn probabilities_are_the_softmax_over_the_whole_shortlist() {
        let mut scores = vec![(4, -3.0), (0, -1.0), (2, -2.0)];
        let total: f64 = [-1.0f64, -2.0, -3.0].map(f64::exp).iter().sum();
        let best = ranked(&mut scores, 2).unwrap();
        assert_eq!(best.iter().map(|best| best.candidate).collect::<Vec<_>>(), [0, 2]);
        assert!((f64::from(best[1].probability) - (-2.0f64).exp() / total).abs() < 1e-6);
        assert_eq!(ranked(&mut [(0, -1e5), (1, -2e5)], 1).unwrap()[0].probability, 1.0);
    }

    #[test]
    fn scores_that_are_no_numbers_are_an_error_of_the_row() {
        assert_eq!(ranked(&mut [(0, f64::NAN), (1, -1.0)], 1), Err(RowError::NotFinite));
        assert_eq!(ranked(&mut [(0, -1.0), (1, f64::NAN)], 1), Err(RowError::NotFinite));
    }
}
