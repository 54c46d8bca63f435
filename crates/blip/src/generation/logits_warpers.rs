//! Logits warpers for sampling: temperature, then top-k, then top-p.
//!
//! They equal `TemperatureLogitsWarper`, `TopKLogitsWarper` and `TopPLogitsWarper` of
//! `transformers`, in this order.

use tch::{Device, TchError, Tensor};

use crate::{batch::task::Sampling, device::transfer::to_device};

/// Applies each hypothesis's options to its `logits` `[hypotheses, vocabulary]`.
///
/// Tokens that cannot be sampled become minus infinity.
pub(crate) fn warp(logits: Tensor, hypotheses: &[Sampling]) -> Result<Tensor, TchError> {
    let device = logits.device();
    let mut logits = logits;
    if hypotheses.iter().any(|hypothesis| hypothesis.temperature != 1.0) {
        logits =
            logits.f_div(&column(hypotheses.iter().map(|hypothesis| hypothesis.temperature), device)?)?;
    }
    if hypotheses.iter().any(|hypothesis| hypothesis.top_k > 0) {
        logits = restrict_to_top_k(&logits, hypotheses)?;
    }
    if hypotheses.iter().any(|hypothesis| hypothesis.top_p < 1.0) {
        logits = restrict_to_top_p(&logits, hypotheses)?;
    }
    Ok(logits)
}

/// Returns one number for each hypothesis, `[hypotheses, 1]`.
fn column(numbers: impl Iterator<Item = f32>, device: Device) -> Result<Tensor, TchError> {
    to_device(&numbers.collect::<Vec<_>>(), device)?.f_view([-1, 1])
}

/// Excludes tokens that are less likely than the `top_k`-th.
fn restrict_to_top_k(logits: &Tensor, hypotheses: &[Sampling]) -> Result<Tensor, TchError> {
    let (device, vocabulary) = (logits.device(), logits.size2()?.1);
    let most = hypotheses
        .iter()
        .map(|hypothesis| i64::from(hypothesis.top_k))
        .max()
        .unwrap_or(1)
        .clamp(1, vocabulary);
    let (likeliest, _) = logits.f_topk(most, -1, true, true)?;
    let last: Vec<i64> =
        hypotheses.iter().map(|hypothesis| i64::from(hypothesis.top_k).clamp(1, most) - 1).collect();
    let last = to_device(&last, device)?.f_view([-1, 1])?;
    // A hypothesis without top-k has no bound.
    let bound =
        hypotheses.iter().map(|hypothesis| if hypothesis.top_k > 0 { 0.0 } else { f32::NEG_INFINITY });
    let bound = likeliest.f_gather(1, &last, false)?.f_add(&column(bound, device)?)?;
    logits.f_masked_fill(&logits.f_lt_tensor(&bound)?, f64::NEG_INFINITY)
}

/// Excludes the least likely tokens while their total probability is at most `1 - top_p`.
fn restrict_to_top_p(logits: &Tensor, hypotheses: &[Sampling]) -> Result<Tensor, TchError> {
    let vocabulary = logits.size2()?.1;
    let (ascending, order) = logits.f_sort(-1, false)?;
    let below = ascending.f_softmax(-1, None)?.f_cumsum(-1, None)?;
    // No probability is below -1. Therefore a hypothesis without top-p includes even the least
    // likely tokens.
    let excluded = hypotheses
        .iter()
        .map(|hypothesis| if hypothesis.top_p < 1.0 { 1.0 - hypothesis.top_p } else { -1.0 });
    let removed = below.f_le_tensor(&column(excluded, logits.device())?)?;
    drop(removed.f_narrow(1, vocabulary - 1, 1)?.f_fill_(0)?);
    logits.f_masked_fill(&removed.f_scatter(1, &order, &removed)?, f64::NEG_INFINITY)
}
