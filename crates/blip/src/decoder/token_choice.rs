//! The best token of each row, with its lead over the second best.

use tch::{Kind, TchError, Tensor};

use crate::device::transfer::to_host;

/// One row's best token at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TokenChoice {
    pub(crate) token: i64,
    /// Its log-probability, a natural logarithm.
    pub(crate) log_probability: f32,
    /// How far the second-best token's log-probability is below it.
    pub(crate) margin: f32,
}

/// The best token of each row of `logits` `[rows, vocabulary]`, with its logit and the next best one: each `[rows, 1]`.
pub(crate) fn best_two(logits: &Tensor) -> Result<(Tensor, Tensor, Tensor), TchError> {
    let (first, token) = logits.f_max_dim(-1, true)?;
    // Two reductions are far quicker than a top-2 over a vocabulary of 30,000.
    let second = logits.f_scatter_value(-1, &token, f64::NEG_INFINITY)?.f_amax(-1, true)?;
    Ok((token, first, second))
}

/// The best token of each row of `logits` `[rows, vocabulary]`, as numbers: `[rows, 4]` in f32.
pub(crate) fn argmax_with_margin(logits: &Tensor) -> Result<Tensor, TchError> {
    let total = logits.f_logsumexp(-1, true)?;
    let (token, first, second) = best_two(logits)?;
    // Token ids stay below 2^24 (the configuration's limit), so f32 holds them exactly.
    Tensor::f_cat(&[first, second, token.f_to_kind(Kind::Float)?, total], 1)
}

/// Brings what [`argmax_with_margin`] found to the host, in one copy.
pub(crate) fn read_choices(table: &Tensor) -> Result<Vec<TokenChoice>, TchError> {
    let numbers = to_host(table)?;
    let (rows, _) = numbers.as_chunks::<4>();
    let choices = rows.iter().map(|&[first, second, token, total]| TokenChoice {
        token: token as i64,
        log_probability: first - total,
        margin: first - second,
    });
    Ok(choices.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_token_comes_with_its_log_probability_and_margin() {
        let logits = Tensor::from_slice(&[0.0f32, 2.0, 1.0, 5.0, -1.0, 0.0]).view([2, 3]);
        let choices = read_choices(&argmax_with_margin(&logits).unwrap()).unwrap();
        assert_eq!((choices[0].token, choices[1].token), (1, 0));
        let total = (0f32.exp() + 2f32.exp() + 1f32.exp()).ln();
        assert!((choices[0].log_probability - (2.0 - total)).abs() < 1e-6);
        assert_eq!(choices[0].margin, 1.0);
    }

    #[test]
    fn a_row_of_nan_has_no_finite_probability() {
        let logits = Tensor::from_slice(&[f32::NAN, 0.0, 1.0]).view([1, 3]);
        assert!(!read_choices(&argmax_with_margin(&logits).unwrap()).unwrap()[0].log_probability.is_finite());
    }
}
