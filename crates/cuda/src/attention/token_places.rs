//! Flash attention that reads keys and values at given places of a larger tensor.
//!
//! LibTorch's operator for rows of unequal lengths reads each row's tokens from where the row
//! starts. With a number of tokens for each row, the starts need not be in order, and rows need not
//! fill the tensor. tch does not bind the operator.
#![expect(clippy::disallowed_methods, reason = "a check may wait for the device")]

use tch::{Device, Kind, TchError, Tensor};

use crate::{error::CudaError, ffi::libtorch::StreamFunctions, random::random_normal, stream::CudaStreams};

/// Sizes of the check: rows of queries, and rows of tokens in the tensor.
const CHECKED_ROWS: [i64; 3] = [4, 0, 2];
const ROWS_OF_TENSOR: i64 = 5;
const CHECKED_QUERIES: i64 = 7;

/// Flash attention to tokens at given places. It was compared with LibTorch's attention to copies
/// of the tokens.
#[derive(Debug, Clone, Copy)]
pub struct PlacedAttention(&'static StreamFunctions);

/// For each row of queries, the place of the tokens that it attends to.
#[derive(Debug)]
pub struct TokenPlaces {
    functions: &'static StreamFunctions,
    /// Where each row of queries starts, and where the last one ends, in i32.
    query_starts: Tensor,
    /// Where the tokens of each row start, and one number that is not used, in i32.
    token_starts: Tensor,
    /// The number of tokens of each row, in i32.
    token_counts: Tensor,
    queries: i64,
    tokens: i64,
}

impl CudaStreams {
    /// Returns attention to tokens at given places, after a comparison on CUDA device `device`.
    ///
    /// `kind` is f16 or bf16. The comparison has rows of `tokens` tokens.
    ///
    /// # Errors
    /// [`CudaError::SelfCheck`] if the results differ, or the error of a failed call.
    pub fn placed_attention(
        self,
        device: usize,
        kind: Kind,
        [heads, head_dim, tokens]: [i64; 3],
    ) -> Result<PlacedAttention, CudaError> {
        let attention = PlacedAttention(self.functions);
        let difference = attention.difference(Device::Cuda(device), kind, [heads, head_dim, tokens])?;
        let most = if kind == Kind::Half { 0.01 } else { 0.05 };
        // The comparison is false for NaN, so NaN fails the check.
        if difference <= most {
            return Ok(attention);
        }
        let difference = format!("{difference:.1e}, expected at most {most}");
        Err(CudaError::SelfCheck { kernel: "flash attention by place", difference })
    }
}

impl PlacedAttention {
    /// Returns the places of rows of `tokens` tokens that start at the token `starts`. Each row has
    /// `queries` queries.
    ///
    /// `upload` copies numbers to the device.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`], also for a start that does not fit i32.
    pub fn places(
        self,
        starts: impl ExactSizeIterator<Item = i64>,
        queries: i64,
        tokens: i64,
        upload: impl FnOnce(&[i32]) -> Result<Tensor, TchError>,
    ) -> Result<TokenPlaces, CudaError> {
        let rows = starts.len() as i64;
        let numbers = numbers(starts, queries, tokens)?;
        let uploaded = upload(&numbers)?;
        let part = |first, count| uploaded.f_narrow(0, first, count);
        Ok(TokenPlaces {
            functions: self.0,
            query_starts: part(0, rows + 1)?,
            token_starts: part(rows + 1, rows + 1)?,
            token_counts: part(2 * (rows + 1), rows)?,
            queries,
            tokens,
        })
    }

    /// Returns the largest difference from LibTorch's attention in f32, for random numbers.
    fn difference(
        self,
        device: Device,
        kind: Kind,
        [heads, head_dim, tokens]: [i64; 3],
    ) -> Result<f64, CudaError> {
        let rows = CHECKED_ROWS.len() as i64;
        let query = random_normal(&[rows, CHECKED_QUERIES, heads, head_dim], Kind::Float, device)?;
        let all = random_normal(&[ROWS_OF_TENSOR, tokens, 2, heads, head_dim], Kind::Float, device)?;
        let [query, all] = [query.f_to_kind(kind)?, all.f_to_kind(kind)?];
        let upload = |numbers: &[i32]| Tensor::f_from_slice(numbers)?.f_to_device(device);
        let starts = CHECKED_ROWS.into_iter().map(|row| row * tokens);
        let places = self.places(starts, CHECKED_QUERIES, tokens, upload)?;
        let found = places.attend(
            &query.f_view([rows * CHECKED_QUERIES, heads, head_dim])?,
            &all.f_view([ROWS_OF_TENSOR * tokens, 2, heads, head_dim])?,
        )?;

        let row_indices = Tensor::f_from_slice(&CHECKED_ROWS)?.f_to_device(device)?;
        let copies =
            all.f_index_select(0, &row_indices)?.f_to_kind(Kind::Float)?.f_permute([2, 0, 3, 1, 4])?;
        let query = query.f_to_kind(Kind::Float)?.f_transpose(1, 2)?;
        let (key, value) = (copies.f_select(0, 0)?, copies.f_select(0, 1)?);
        let expected = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<Tensor>,
            0.0,
            false,
            None,
            false,
        )?;
        let found = found.f_view([rows, CHECKED_QUERIES, heads, head_dim])?.f_transpose(1, 2)?;
        let difference = found.f_to_kind(Kind::Float)?.f_sub(&expected)?.f_abs()?.f_max()?;
        Ok(difference.f_double_value(&[])?)
    }
}

impl TokenPlaces {
    /// Returns `softmax(query key^T / sqrt(head dim)) value` in the shape of `query` `[rows *
    /// queries, heads, head dim]`.
    ///
    /// `key_values` `[all tokens, 2, heads, head dim]` has the key and the value of each token. The
    /// tokens of all rows must be within it: this is not checked on the device.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`], also if flash attention does not support the tensors.
    pub fn attend(&self, query: &Tensor, key_values: &Tensor) -> Result<Tensor, CudaError> {
        let (key, value) = (key_values.f_select(1, 0)?, key_values.f_select(1, 1)?);
        let places = [&self.query_starts, &self.token_starts, &self.token_counts];
        self.functions.attention_placed([query, &key, &value], places, [self.queries, self.tokens])
    }
}

/// Returns the numbers of [`TokenPlaces`], one after the other.
fn numbers(
    starts: impl ExactSizeIterator<Item = i64>,
    queries: i64,
    tokens: i64,
) -> Result<Vec<i32>, TchError> {
    let rows = starts.len();
    let query_starts = (0..).take(rows + 1).map(|row: i64| row.saturating_mul(queries));
    let token_starts = starts.chain([0]);
    let token_counts = std::iter::repeat_n(tokens, rows);
    let all = query_starts.chain(token_starts).chain(token_counts);
    all.map(|number| i32::try_from(number).map_err(|error| TchError::Convert(error.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_have_starts_of_queries_and_tokens_and_counts(
            starts in prop::collection::vec(0i64..1 << 30, 1..40),
            queries in 1i64..200,
            tokens in 1i64..1_000,
        ) {
            let numbers = numbers(starts.iter().copied(), queries, tokens).unwrap();
            let (query_starts, rest) = numbers.split_at(starts.len() + 1);
            let (token_starts, counts) = rest.split_at(starts.len() + 1);
            let lengths = query_starts.windows(2).map(|pair| i64::from(pair[1] - pair[0]));
            prop_assert!(query_starts[0] == 0 && lengths.into_iter().all(|length| length == queries));
            let found: Vec<i64> = token_starts[..starts.len()].iter().copied().map(i64::from).collect();
            prop_assert_eq!(found, starts.clone());
            prop_assert_eq!(counts.to_vec(), vec![i32::try_from(tokens).unwrap(); starts.len()]);
        }
    }

    #[test]
    fn starts_beyond_i32_are_an_error() {
        assert!(numbers([i64::from(i32::MAX)].into_iter(), 1, 1).is_ok());
        assert!(numbers([i64::from(i32::MAX) + 1].into_iter(), 1, 1).is_err());
        assert!(numbers([0; 2].into_iter(), i64::MAX, 1).is_err());
    }
}
