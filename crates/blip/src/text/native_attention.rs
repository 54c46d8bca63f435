//! Attention to the tokens of images with the native kernels, on tensors.

use cpu_kernels::Heads;
use tch::{TchError, Tensor};

use crate::{
    layers::tensor_slice::{as_slice, filled, size},
    parallel::{ParallelKernels, attention::AttentionInput},
};

/// The number of queries from which the native kernels are faster than LibTorch's. They copy keys
/// and values into another layout first.
const MIN_QUERIES: i64 = 6;

/// The number of tokens from which dividing the work among threads saves more than it costs.
const MIN_TOKENS: i64 = 64;

/// Returns whether the native kernels are faster for `queries` queries over `tokens` tokens.
pub(super) fn is_faster(queries: i64, tokens: i64) -> bool {
    queries >= MIN_QUERIES && tokens >= MIN_TOKENS
}

/// Returns the context of `query` `[rows, heads, queries, head dim]`, in the same shape.
///
/// `key_value` is `[rows, tokens, 2 * heads * head dim]`: all keys, then all values.
pub(super) fn attend_to_tokens(
    kernels: &ParallelKernels,
    query: &Tensor,
    key_value: &Tensor,
) -> Result<Tensor, TchError> {
    let (_, heads, queries, head_dim) = query.size4()?;
    let expected = [query.size4()?.0, key_value.size3()?.1, 2 * heads * head_dim];
    if key_value.size() != expected {
        return Err(TchError::Shape(format!("keys and values are {key_value:?}, expected {expected:?}")));
    }
    let shape = query.size();
    let (query, key_value) = (query.f_transpose(1, 2)?.f_contiguous()?, key_value.f_contiguous()?);
    filled(&shape, |context| {
        let input = AttentionInput {
            queries: as_slice(&query)?,
            key_values: as_slice(&key_value)?,
            tokens: size(key_value.size3()?.1),
            queries_of_group: size(queries),
        };
        kernels.attend(Heads::new(size(heads), size(head_dim)), input, context);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use cpu_kernels::NumberFormat;
    use proptest::prelude::*;

    use super::*;
    use crate::{layers::attention::attend, tests::random_layers};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn context_equals_that_of_libtorch(
            rows in 1i64..4,
            heads in 1i64..4,
            queries in 1i64..20,
            tokens in 1i64..90,
            threads in 1usize..3,
        ) {
            let (kernels, head_dim) = (ParallelKernels::new(threads, NumberFormat::F32).unwrap(), 16);
            let query = random_layers::tensor(&[rows, queries, heads, head_dim]).transpose(1, 2);
            let key_value = random_layers::tensor(&[rows, tokens, 2 * heads * head_dim]);
            let by_head = key_value.view([rows, tokens, 2, heads, head_dim]).permute([2, 0, 3, 1, 4]);
            let expected = attend(&query, &by_head.get(0), &by_head.get(1), None).unwrap();
            let found = attend_to_tokens(&kernels, &query, &key_value).unwrap();
            prop_assert_eq!(found.size(), expected.size());
            prop_assert!((found - expected).abs().max().double_value(&[]) < 1e-4);
        }
    }
}
