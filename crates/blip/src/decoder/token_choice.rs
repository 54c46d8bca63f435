//! The best token of each row, with its lead over the second best.

use tch::{Kind, TchError, Tensor};

use crate::device::transfer::to_host;

/// The best token of a row at one step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TokenChoice {
    pub(crate) token: i64,
    /// Natural logarithm of the token's probability.
    pub(crate) log_probability: f32,
    /// Lead over the log-probability of the second-best token.
    pub(crate) margin: f32,
}

/// Returns the best token of each row of `logits` `[rows, vocabulary]`, its logit and the
/// second-best logit.
///
/// Each result is `[rows, 1]`.
pub(crate) fn best_two(logits: &Tensor) -> Result<(Tensor, Tensor, Tensor), TchError> {
    let (first, token) = logits.f_max_dim(-1, true)?;
    // Two reductions are much faster than a top-2 over a vocabulary of 30,000 tokens.
    let second = logits.f_scatter_value(-1, &token, f64::NEG_INFINITY)?.f_amax(-1, true)?;
    Ok((token, first, second))
}

/// Returns a table `[rows, 4]` in f32 of the best tokens of `logits` `[rows, vocabulary]`.
///
/// The columns are best logit, second-best logit, token id and log of the summed exponentials.
pub(crate) fn argmax_with_margin(logits: &Tensor) -> Result<Tensor, TchError> {
    let total = logits.f_logsumexp(-1, true)?;
    let (token, first, second) = best_two(logits)?;
    // Token ids are below 2^24, a limit of the configuration. Therefore f32 represents them
    // exactly.
    Tensor::f_cat(&[first, second, token.f_to_kind(Kind::Float)?, total], 1)
}

/// Copies a table of [`argmax_with_margin`] to the host in one transfer.
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
    fn best_token_has_its_log_probability_and_margin() {
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
