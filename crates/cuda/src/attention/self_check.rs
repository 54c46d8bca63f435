//! Compares attention to ranges of tokens with attention to copies of these tokens.
#![expect(clippy::disallowed_methods, reason = "a check may wait for the device")]

use tch::{Device, Kind, Tensor};

use crate::{error::CudaError, random::random_normal};

/// Rows of tokens in the tensor.
const TENSOR_ROWS: i64 = 5;

/// The row to which each row of queries attends. All other rows are NaN, so that every read outside
/// of a range makes the result NaN.
const ATTENDED_ROWS: [i64; 3] = [3, 0, 2];

/// Queries of a row. Kernels compute 64 or 128 of them together.
const QUERIES: i64 = 130;

/// The standard deviation of queries. With 1, each token would have nearly the same weight, and one
/// token more or less would change little.
const QUERY_DEVIATION: f64 = 4.0;

/// The queries and tokens of a comparison.
#[derive(Debug)]
pub(super) struct Sample {
    /// `[rows of queries * queries, heads, head dim]`.
    pub(super) query: Tensor,
    /// `[rows of tokens * tokens, 2, heads, head dim]`.
    pub(super) key_values: Tensor,
    tokens: i64,
}

impl Sample {
    pub(super) const QUERIES: i64 = QUERIES;

    pub(super) fn new(
        device: Device,
        kind: Kind,
        [heads, head_dim, tokens]: [i64; 3],
    ) -> Result<Self, CudaError> {
        let random = |size: &[i64]| random_normal(size, Kind::Float, Device::Cpu);
        let rows = ATTENDED_ROWS.len() as i64;
        let query = random(&[rows * QUERIES, heads, head_dim])?.f_mul_scalar(QUERY_DEVIATION)?;
        let key_values = random(&[TENSOR_ROWS * tokens, 2, heads, head_dim])?;
        for row in (0..TENSOR_ROWS).filter(|row| !ATTENDED_ROWS.contains(row)) {
            let _: Tensor = key_values.f_narrow(0, row * tokens, tokens)?.f_fill_(f64::NAN)?;
        }
        let to_device = |tensor: &Tensor| tensor.f_to_kind(kind)?.f_to_device(device);
        Ok(Self { query: to_device(&query)?, key_values: to_device(&key_values)?, tokens })
    }

    /// Returns where the tokens of each row of queries start.
    pub(super) fn starts(&self) -> impl ExactSizeIterator<Item = i64> + Clone + use<> {
        let tokens = self.tokens;
        ATTENDED_ROWS.into_iter().map(move |row| row * tokens)
    }

    /// Returns the largest difference of `context` from attention in f32, relative to its largest
    /// number. It is NaN if `context` has NaN.
    pub(super) fn difference(&self, context: &Tensor) -> Result<f64, CudaError> {
        let in_f32 = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
        let expected = self.starts().zip((0..).step_by(QUERIES as usize)).map(|(start, first_query)| {
            let query = in_f32(&self.query.f_narrow(0, first_query, QUERIES)?)?.f_transpose(0, 1)?;
            let tokens =
                in_f32(&self.key_values.f_narrow(0, start, self.tokens)?)?.f_permute([1, 2, 0, 3])?;
            let (key, value) = (tokens.f_select(0, 0)?, tokens.f_select(0, 1)?);
            let scale = (self.query.size3()?.2 as f64).sqrt();
            let scores = query.f_matmul(&key.f_transpose(1, 2)?)?.f_div_scalar(scale)?;
            scores.f_softmax(-1, Kind::Float)?.f_matmul(&value)?.f_transpose(0, 1)
        });
        let expected = Tensor::f_cat(&expected.collect::<Result<Vec<_>, _>>()?, 0)?;
        let difference = in_f32(context)?.f_sub(&expected)?.f_abs()?.f_max()?;
        Ok(difference.f_div(&expected.f_abs()?.f_max()?)?.f_double_value(&[])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [i64; 3] = [2, 8, 40];

    /// Returns attention to copies of the tokens from each of `starts` on. `key` is the index of
    /// keys.
    fn attention(sample: &Sample, starts: &[i64], key: i64) -> Tensor {
        let [heads, head_dim, tokens] = SIZES;
        let rows = starts.len() as i64;
        let query = sample.query.view([rows, QUERIES, heads, head_dim]).transpose(1, 2);
        let copies: Vec<Tensor> =
            starts.iter().map(|&start| sample.key_values.narrow(0, start, tokens)).collect();
        let copies = Tensor::stack(&copies, 0).permute([2, 0, 3, 1, 4]);
        let (key, value) = (copies.get(key), copies.get(1 - key));
        let context = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<Tensor>,
            0.0,
            false,
            None,
            false,
        );
        context.transpose(1, 2).reshape([rows * QUERIES, heads, head_dim])
    }

    #[test]
    fn comparison_finds_wrong_starts_and_swapped_keys() {
        let sample = Sample::new(Device::Cpu, Kind::Float, SIZES).unwrap();
        let difference = |starts: &[i64], key| sample.difference(&attention(&sample, starts, key)).unwrap();
        let starts: Vec<i64> = sample.starts().collect();
        assert!(difference(&starts, 0) < 1e-5);
        assert!(difference(&starts, 1) > 0.1, "keys and values are swapped");
        assert!(difference(&[starts[1], starts[0], starts[2]], 0) > 0.1, "rows are swapped");
        for (row, shift) in [(0, 1), (1, 1), (2, -1)] {
            let mut shifted = starts.clone();
            shifted[row] += shift;
            assert!(difference(&shifted, 0).is_nan(), "row {row} starts at another token");
        }
        assert!(sample.difference(&sample.query.zeros_like()).unwrap() > 0.9);
    }
}
