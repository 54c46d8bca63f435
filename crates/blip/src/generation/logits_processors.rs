//! Logits processors: repetition penalty, then minimum length.
//!
//! They equal `RepetitionPenaltyLogitsProcessor` and `MinLengthLogitsProcessor` of `transformers`,
//! in this order.

use tch::{TchError, Tensor};

use crate::{batch::task::Generation, device::transfer::to_device};

/// The options of a hypothesis and its tokens so far, with start token and prompt.
#[derive(Debug)]
pub(crate) struct TokenHistory<'a> {
    pub(crate) options: &'a Generation,
    pub(crate) token_ids: Vec<i64>,
}

/// Applies each hypothesis's options to its `scores` `[hypotheses, vocabulary]`.
///
/// Scores are log-probabilities for beam search, otherwise logits. All hypotheses have the same
/// number of tokens.
pub(crate) fn process(
    mut scores: Tensor,
    hypotheses: &[TokenHistory<'_>],
    stop_token: i64,
) -> Result<Tensor, TchError> {
    let (count, device) = (hypotheses.len() as i64, scores.device());
    if hypotheses.iter().any(|hypothesis| hypothesis.options.repetition_penalty != 1.0) {
        let penalties: Vec<f32> =
            hypotheses.iter().map(|hypothesis| hypothesis.options.repetition_penalty).collect();
        let penalties = to_device(&penalties, device)?.f_view([count, 1])?;
        let ids: Vec<i64> =
            hypotheses.iter().flat_map(|hypothesis| hypothesis.token_ids.iter().copied()).collect();
        let ids = to_device(&ids, device)?.f_view([count, -1])?;
        let repeated = scores.f_gather(1, &ids, false)?;
        let lowered =
            repeated.f_mul(&penalties)?.f_where_self(&repeated.f_lt(0.0)?, &repeated.f_div(&penalties)?)?;
        scores = scores.f_scatter(1, &ids, &lowered)?;
    }
    let too_short =
        |hypothesis: &TokenHistory<'_>| hypothesis.token_ids.len() < hypothesis.options.min_length as usize;
    if hypotheses.iter().any(too_short) {
        let added: Vec<f32> = hypotheses
            .iter()
            .map(|hypothesis| if too_short(hypothesis) { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        let added = to_device(&added, device)?.f_view([count, 1])?;
        let stop = Tensor::f_full([count, 1], stop_token, (tch::Kind::Int64, device))?;
        scores = scores.f_scatter_add(1, &stop, &added)?;
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::{batch::task::Sampling, generation::logits_warpers::warp};

    /// Results of `transformers` for random logits (`tools/goldens_generation.py`).
    #[derive(Deserialize)]
    struct Goldens {
        stop_token: i64,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        options: Options,
        sequences: Vec<Vec<i64>>,
        logits: Vec<Vec<f32>>,
        processed: Vec<Vec<Option<f32>>>,
    }

    #[derive(Deserialize, Debug)]
    struct Options {
        repetition_penalty: f32,
        min_length: u32,
        temperature: f32,
        top_k: u32,
        top_p: f32,
    }

    /// Returns the processed and warped logits of `cases` in one batch.
    fn process_together(cases: &[&Case], stop_token: i64) -> Vec<Vec<f32>> {
        let generations: Vec<Generation> = cases
            .iter()
            .map(|case| {
                let Options { repetition_penalty, min_length, temperature, top_k, top_p } = case.options;
                let sampling = Some(Sampling { temperature, top_k, top_p, seed: 0 });
                Generation { repetition_penalty, min_length, sampling, ..Generation::GREEDY }
            })
            .collect();
        let hypotheses: Vec<TokenHistory<'_>> = cases
            .iter()
            .zip(&generations)
            .flat_map(|(case, options)| {
                case.sequences.iter().map(move |ids| TokenHistory { options, token_ids: ids.clone() })
            })
            .collect();
        let logits: Vec<f32> = cases.iter().flat_map(|case| case.logits.concat()).collect();
        let logits = Tensor::from_slice(&logits).view([hypotheses.len() as i64, -1]);
        let samplings: Vec<Sampling> =
            hypotheses.iter().filter_map(|hypothesis| hypothesis.options.sampling).collect();
        let found = warp(process(logits, &hypotheses, stop_token).unwrap(), &samplings).unwrap();
        Vec::<Vec<f32>>::try_from(found).unwrap()
    }

    #[test]
    fn processed_logits_equal_transformers_in_any_batch() {
        let json = include_bytes!("../../tests/logits_processors.json");
        let goldens: Goldens = serde_json::from_slice(json).unwrap();
        let all: Vec<&Case> = goldens.cases.iter().collect();
        let batches = all.iter().map(std::slice::from_ref).chain([&all[..]]);
        for batch in batches {
            let found = process_together(batch, goldens.stop_token);
            let expected =
                batch.iter().flat_map(|case| case.processed.iter().map(|row| (&case.options, row)));
            for (found, (options, expected)) in found.iter().zip(expected) {
                for (found, expected) in found.iter().zip(expected) {
                    match expected {
                        Some(expected) => assert!((found - expected).abs() < 1e-5, "{options:?}"),
                        None => assert_eq!(*found, f32::NEG_INFINITY, "{options:?}"),
                    }
                }
            }
        }
    }
}
