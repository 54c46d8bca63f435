//! Compares attention to ranges of tokens with attention to copies of these tokens.
#![expect(clippy::disallowed_methods, reason = "a check may wait for the device")]

use tch::{Device, Kind, Tensor};

use super::token_range::TokenRange;
use crate::{error::CudaError, random::random_normal};

/// Rows of tokens in the tensor.
const TENSOR_ROWS: i64 = 5;

/// The row of tokens to which each row of queries attends, and the number of its queries.
///
/// All other rows of tokens are NaN, so that every read outside of a range makes the result NaN.
/// Kernels compute 64 or 128 queries together.
const ATTENDED_ROWS: [(i64, i64); 3] = [(3, 130), (0, 1), (2, 65)];

/// The standard deviation of queries. With 1, each token would have nearly the same weight, and one
/// token more or less would change little.
const QUERY_DEVIATION: f64 = 4.0;

/// The queries and tokens of a comparison.
#[derive(Debug)]
pub(super) struct Sample {
    /// `[queries of all rows, heads, head dim]`.
    pub(super) query: Tensor,
    /// `[rows of tokens * tokens, 2, heads, head dim]`.
    pub(super) key_values: Tensor,
    tokens: i64,
}

impl Sample {
    pub(super) fn new(
        device: Device,
        kind: Kind,
        [heads, head_dim, tokens]: [i64; 3],
    ) -> Result<Self, CudaError> {
        let random = |size: &[i64]| random_normal(size, Kind::Float, Device::Cpu);
        let queries = ATTENDED_ROWS.iter().map(|(_, queries)| queries).sum();
        let query = random(&[queries, heads, head_dim])?.f_mul_scalar(QUERY_DEVIATION)?;
        let key_values = random(&[TENSOR_ROWS * tokens, 2, heads, head_dim])?;
        let is_attended = |row: i64| ATTENDED_ROWS.iter().any(|&(attended, _)| attended == row);
        for row in (0..TENSOR_ROWS).filter(|&row| !is_attended(row)) {
            let _: Tensor = key_values.f_narrow(0, row * tokens, tokens)?.f_fill_(f64::NAN)?;
        }
        let to_device = |tensor: &Tensor| tensor.f_to_kind(kind)?.f_to_device(device);
        Ok(Self { query: to_device(&query)?, key_values: to_device(&key_values)?, tokens })
    }

    /// Returns the rows of queries with their tokens.
    pub(super) fn rows(&self) -> [TokenRange; 3] {
        ATTENDED_ROWS.map(|(row, queries)| TokenRange { start: row * self.tokens, queries })
    }

    /// Returns the largest difference of `context` from attention in f32, relative to its largest
    /// number. It is NaN if `context` has NaN.
    pub(super) fn difference(&self, context: &Tensor) -> Result<f64, CudaError> {
        let in_f32 = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
        let mut first_query = 0;
        let expected = self.rows().map(|TokenRange { start, queries }| {
            let query = in_f32(&self.query.f_narrow(0, first_query, queries)?)?.f_transpose(0, 1)?;
            first_query += queries;
            let tokens =
                in_f32(&self.key_values.f_narrow(0, start, self.tokens)?)?.f_permute([1, 2, 0, 3])?;
            let (key, value) = (tokens.f_select(0, 0)?, tokens.f_select(0, 1)?);
            let scale = (self.query.size3()?.2 as f64).sqrt();
            let scores = query.f_matmul(&key.f_transpose(1, 2)?)?.f_div_scalar(scale)?;
            scores.f_softmax(-1, Kind::Float)?.f_matmul(&value)?.f_transpose(0, 1)
        });
        let expected = Tensor::f_cat(&expected.into_iter().collect::<Result<Vec<_>, _>>()?, 0)?;
        let difference = in_f32(context)?.f_sub(&expected)?.f_abs()?.f_max()?;
        Ok(difference.f_div(&expected.f_abs()?.f_max()?)?.f_double_value(&[])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [i64; 3] = [2, 8, 40];

    /// Returns LibTorch's attention of `rows`. `key` is the index of keys.
    fn attention(sample: &Sample, rows: [TokenRange; 3], key: i64) -> Tensor {
        let mut first_query = 0;
        let contexts = rows.map(|TokenRange { start, queries }| {
            let query = sample.query.narrow(0, first_query, queries).transpose(0, 1);
            first_query += queries;
            let tokens = sample.key_values.narrow(0, start, sample.tokens).permute([1, 2, 0, 3]);
            let (key, value) = (tokens.get(key), tokens.get(1 - key));
            let no_mask = None::<Tensor>;
            Tensor::scaled_dot_product_attention(&query, &key, &value, no_mask, 0.0, false, None, false)
                .transpose(0, 1)
        });
        Tensor::cat(&contexts, 0)
    }

    #[test]
    fn comparison_finds_wrong_starts_and_swapped_keys() {
        let sample = Sample::new(Device::Cpu, Kind::Float, SIZES).unwrap();
        let difference = |rows, key| sample.difference(&attention(&sample, rows, key)).unwrap();
        let rows = sample.rows();
        assert!(difference(rows, 0) < 1e-5);
        assert!(difference(rows, 1) > 0.1, "keys and values are swapped");
        let [first, second, third] = rows;
        let swapped =
            [TokenRange { start: third.start, ..first }, second, TokenRange { start: first.start, ..third }];
        assert!(difference(swapped, 0) > 0.1, "tokens of two rows are swapped");
        let moved = [TokenRange { queries: 66, ..first }, TokenRange { queries: 65, ..second }, third];
        assert!(difference(moved, 0) > 0.1, "the second row begins at another query");
        for (row, shift) in [(0, 1), (1, 1), (2, -1)] {
            let mut shifted = rows;
            shifted[row].start += shift;
            assert!(difference(shifted, 0).is_nan(), "row {row} starts at another token");
        }
        assert!(sample.difference(&sample.query.zeros_like()).unwrap() > 0.9);
    }
}
