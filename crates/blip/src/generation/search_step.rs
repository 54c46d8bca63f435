//! One step of a search: finds each row's best continuations in the decoder's logits.
//!
//! The work runs on the device. One transfer copies the results to the host.

use tch::{Kind, TchError, Tensor};

use crate::{
    decoder::token_choice::best_two,
    device::transfer::{to_device, to_host},
    generation::{
        beam_search::BeamSearch,
        logits_processors::{TokenHistory, process},
        logits_warpers::warp,
        sampling::sample,
        search_row::{Method, SearchResult, SearchRow},
    },
};

/// Returns the results of each row, from `logits` `[hypotheses, vocabulary]`.
///
/// `rows` are in the order of their methods.
pub(crate) fn find_next(
    logits: &Tensor,
    rows: &[SearchRow<'_>],
    step: usize,
    stop_token: i64,
) -> Result<Vec<Vec<SearchResult>>, TchError> {
    let vocabulary = logits.size2()?.1;
    let (mut tables, mut counts) = (Vec::new(), Vec::new());
    let mut first_hypothesis = 0;
    for section in rows.chunk_by(|one, other| one.method() == other.method()) {
        let histories: Vec<TokenHistory<'_>> = section.iter().flat_map(|row| row.histories(step)).collect();
        let hypotheses = histories.len() as i64;
        let section_logits = logits.f_narrow(0, first_hypothesis, hypotheses)?;
        first_hypothesis += hypotheses;
        match section.first().map(SearchRow::method) {
            Some(Method::Beams) => {
                let scores = process(section_logits.f_log_softmax(-1, None)?, &histories, stop_token)?;
                tables.extend(continue_beams(&scores, section)?);
                counts.extend(section.iter().map(|row| continuations(row.hypotheses(), vocabulary)));
            }
            Some(Method::Greedy) => {
                let processed = process(section_logits.shallow_clone(), &histories, stop_token)?;
                let (tokens, first, second) = best_two(&processed)?;
                tables.push(chosen(&section_logits, &tokens, &first.f_sub(&second)?)?);
                counts.extend(section.iter().map(|row| row.hypotheses() as i64));
            }
            Some(Method::Sampled) => {
                let (samplings, uniforms): (Vec<_>, Vec<_>) =
                    section.iter().flat_map(|row| row.sampling_inputs(step)).unzip();
                let processed = process(section_logits.shallow_clone(), &histories, stop_token)?;
                let tokens = sample(&warp(processed, &samplings)?, &uniforms)?;
                tables.push(chosen(
                    &section_logits,
                    &tokens,
                    &Tensor::f_zeros([hypotheses, 1], (Kind::Float, section_logits.device()))?,
                )?);
                counts.extend(section.iter().map(|row| row.hypotheses() as i64));
            }
            None => {}
        }
    }
    let found = read(&Tensor::f_cat(&tables, 0)?)?;
    let mut rest = found.into_iter();
    Ok(counts.into_iter().map(|count| rest.by_ref().take(count as usize).collect()).collect())
}

/// Returns the number of continuations to find for a row with `beams` beams.
fn continuations(beams: usize, vocabulary: i64) -> i64 {
    (BeamSearch::width(beams) as i64).min(beams as i64 * vocabulary)
}

/// Returns the best continuations of each row, best first, as tables `[continuations, 3]`.
///
/// `scores` `[hypotheses, vocabulary]` are the processed log-probabilities of this step.
fn continue_beams(scores: &Tensor, rows: &[SearchRow<'_>]) -> Result<Vec<Tensor>, TchError> {
    let vocabulary = scores.size2()?.1;
    let sums: Vec<f32> = rows.iter().flat_map(SearchRow::sums).collect();
    let sums = to_device(&sums, scores.device())?.f_view([-1, 1])?;
    let scores = scores.f_add(&sums)?;
    let mut first_hypothesis = 0;
    let runs = rows.chunk_by(|one, other| one.hypotheses() == other.hypotheses()).map(|run| {
        let (count, beams) = (run.len() as i64, run.first().map_or(1, SearchRow::hypotheses));
        let hypotheses = beams as i64;
        let together = scores
            .f_narrow(0, first_hypothesis, count * hypotheses)?
            .f_reshape([count, hypotheses * vocabulary])?;
        first_hypothesis += count * hypotheses;
        let (sums, index) = together.f_topk(continuations(beams, vocabulary), -1, true, true)?;
        let beam = index.f_div_scalar_mode(vocabulary, "floor")?.f_to_kind(Kind::Float)?;
        let token = index.f_remainder(vocabulary)?.f_to_kind(Kind::Float)?;
        Tensor::f_stack(&[sums, beam, token], -1)?.f_view([-1, 3])
    });
    runs.collect()
}

/// Returns a table `[hypotheses, 3]` of the chosen `tokens` `[hypotheses, 1]`.
///
/// Its log-probabilities come from the unprocessed `logits`.
fn chosen(logits: &Tensor, tokens: &Tensor, margins: &Tensor) -> Result<Tensor, TchError> {
    let log_probabilities = logits.f_gather(1, tokens, false)?.f_sub(&logits.f_logsumexp(-1, true)?)?;
    Tensor::f_cat(&[&tokens.f_to_kind(Kind::Float)?, &log_probabilities, margins], 1)
}

/// Copies a table `[n, 3]` of f32 to the host.
fn read(table: &Tensor) -> Result<Vec<SearchResult>, TchError> {
    Ok(to_host(table)?.as_chunks::<3>().0.to_vec())
}
