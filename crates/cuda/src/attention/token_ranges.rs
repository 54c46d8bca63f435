//! Flash attention that reads keys and values in given ranges of a larger tensor.
//!
//! It is LibTorch's operator for rows of unequal lengths. With a number of tokens for each row, the
//! starts need not be in order, and rows need not fill the tensor. tch does not bind the operator.

use std::ops::RangeInclusive;

use tch::{Device, Kind, TchError, Tensor};

use super::{self_check::Sample, token_range::TokenRange};
use crate::{error::CudaError, ffi::libtorch::StreamFunctions, stream::CudaStreams};

/// The name in errors.
const KERNEL: &str = "attention to ranges of tokens";

/// The largest head dim of flash attention, and the number that divides all head dims.
const MAX_HEAD_DIM: i64 = 256;
const HEAD_DIM_MULTIPLE: i64 = 8;

/// Flash attention to ranges of tokens. It was compared with attention to copies of the tokens.
#[derive(Debug, Clone, Copy)]
pub struct RangeAttention(&'static StreamFunctions);

/// The ranges of a call, in the order of its queries.
#[derive(Debug)]
pub struct TokenRanges {
    functions: &'static StreamFunctions,
    /// Where each row of queries starts, and where the last one ends, in i32.
    query_starts: Tensor,
    /// Where the tokens of each row start, and one number that is not used, in i32.
    token_starts: Tensor,
    /// The number of tokens of each row, in i32.
    token_counts: Tensor,
    /// Queries of all rows.
    queries: i64,
    /// Queries of the longest row.
    most_queries: i64,
    /// Tokens of a range.
    tokens: i64,
    /// Where the last range ends.
    end: i64,
}

impl CudaStreams {
    /// Returns attention to ranges of tokens on CUDA device `device`, after a comparison with
    /// ranges of `tokens` tokens.
    ///
    /// It is `None` without flash attention: before compute capability 8.0, in other formats than
    /// f16 and bf16, and for other head dims than multiples of 8 up to 256.
    ///
    /// # Errors
    /// [`CudaError::SelfCheck`] if the results differ, or the error of a failed call.
    pub fn range_attention(
        self,
        device: usize,
        kind: Kind,
        [heads, head_dim, tokens]: [i64; 3],
    ) -> Result<Option<RangeAttention>, CudaError> {
        let most = match kind {
            Kind::Half => 0.01,
            Kind::BFloat16 => 0.03,
            _ => return Ok(None),
        };
        let is_supported = head_dim % HEAD_DIM_MULTIPLE == 0 && head_dim <= MAX_HEAD_DIM;
        if !is_supported || !self.functions.attention_has_flash(device)? {
            return Ok(None);
        }
        let attention = RangeAttention(self.functions);
        let difference = attention.difference(Device::Cuda(device), kind, [heads, head_dim, tokens])?;
        // The comparison is false for NaN, so NaN fails the check.
        if difference <= most {
            return Ok(Some(attention));
        }
        let difference = format!("{difference:.1e} of the largest result, expected at most {most}");
        Err(CudaError::SelfCheck { kernel: KERNEL, difference })
    }
}

impl RangeAttention {
    /// Returns the ranges of `rows`, each of `tokens` tokens. `upload` copies numbers to the
    /// device.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`], also for a start that is negative or too large for i32.
    pub fn ranges(
        self,
        rows: &[TokenRange],
        tokens: i64,
        upload: impl FnOnce(&[i32]) -> Result<Tensor, TchError>,
    ) -> Result<TokenRanges, CudaError> {
        let uploaded = upload(&numbers(rows, tokens)?)?;
        let count = rows.len() as i64;
        let part = |first, count| uploaded.f_narrow(0, first, count);
        Ok(TokenRanges {
            functions: self.0,
            query_starts: part(0, count + 1)?,
            token_starts: part(count + 1, count + 1)?,
            token_counts: part(2 * (count + 1), count)?,
            queries: rows.iter().map(|row| row.queries).sum(),
            most_queries: rows.iter().map(|row| row.queries).max().unwrap_or(0),
            tokens,
            end: rows.iter().map(|row| row.start).max().unwrap_or(0).saturating_add(tokens),
        })
    }

    /// Returns the difference from attention to copies, see [`Sample::difference`].
    #[expect(clippy::disallowed_methods, reason = "a check may wait for the device")]
    fn difference(self, device: Device, kind: Kind, sizes: [i64; 3]) -> Result<f64, CudaError> {
        let sample = Sample::new(device, kind, sizes)?;
        let upload = |numbers: &[i32]| Tensor::f_from_slice(numbers)?.f_to_device(device);
        let [_, _, tokens] = sizes;
        let ranges = self.ranges(&sample.rows(), tokens, upload)?;
        sample.difference(&ranges.attend(&sample.query, &sample.key_values)?)
    }
}

impl TokenRanges {
    /// Returns `softmax(query key^T / sqrt(head dim)) value` in the shape of `query`
    /// `[queries, heads, head dim]`.
    ///
    /// `key_values` `[all tokens, 2, heads, head dim]` has the key and the value of each token.
    ///
    /// # Errors
    /// [`CudaError::TensorMismatch`] if the ranges do not fit the tensors, or
    /// [`CudaError::LibTorch`].
    pub fn attend(&self, query: &Tensor, key_values: &Tensor) -> Result<Tensor, CudaError> {
        check_rows("query", query, self.queries..=self.queries)?;
        check_rows("key_values", key_values, self.end..=i64::MAX)?;
        let (key, value) = (key_values.f_select(1, 0)?, key_values.f_select(1, 1)?);
        let ranges = [&self.query_starts, &self.token_starts, &self.token_counts];
        self.functions.attention_ranges([query, &key, &value], ranges, [self.most_queries, self.tokens])
    }
}

/// Checks the first dimension of a tensor. The kernel does not check what it reads.
fn check_rows(tensor: &'static str, found: &Tensor, expected: RangeInclusive<i64>) -> Result<(), CudaError> {
    let rows = found.size().first().copied().unwrap_or(0);
    if expected.contains(&rows) {
        return Ok(());
    }
    let at_least = if expected.end() > expected.start() { "at least " } else { "" };
    let (found, expected) = (format!("{rows} rows"), format!("{at_least}{} rows", expected.start()));
    Err(CudaError::TensorMismatch { kernel: KERNEL, tensor, found, expected })
}

/// Returns the numbers of [`TokenRanges`], one after the other.
fn numbers(rows: &[TokenRange], tokens: i64) -> Result<Vec<i32>, TchError> {
    let ends = rows.iter().scan(0i64, |end, row| {
        *end = end.saturating_add(row.queries);
        Some(*end)
    });
    let query_starts = [0].into_iter().chain(ends);
    let token_starts = rows.iter().map(|row| row.start).chain([0]);
    let token_counts = std::iter::repeat_n(tokens, rows.len());
    // The kernel reads a negative start as no start.
    let number = |number: i64| u32::try_from(number).and_then(i32::try_from);
    let all = query_starts.chain(token_starts).chain(token_counts);
    all.map(|each| number(each).map_err(|error| TchError::Convert(error.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_have_starts_of_queries_and_tokens_and_counts(
            rows in prop::collection::vec((0i64..1 << 30, 1i64..200), 1..40),
            tokens in 1i64..1_000,
        ) {
            let ranges: Vec<_> = rows.iter().map(|&(start, queries)| TokenRange { start, queries }).collect();
            let numbers = numbers(&ranges, tokens).unwrap();
            let (query_starts, rest) = numbers.split_at(rows.len() + 1);
            let (token_starts, counts) = rest.split_at(rows.len() + 1);
            prop_assert_eq!(query_starts[0], 0);
            let lengths = query_starts.windows(2).map(|pair| i64::from(pair[1] - pair[0]));
            let found: Vec<_> = token_starts.iter().copied().map(i64::from).zip(lengths).collect();
            prop_assert_eq!(found, rows.clone());
            prop_assert_eq!(counts.to_vec(), vec![i32::try_from(tokens).unwrap(); rows.len()]);
        }
    }

    #[test]
    fn starts_beyond_i32_and_negative_ones_are_errors() {
        let most = i64::from(i32::MAX);
        let numbers = |rows: &[(i64, i64)]| {
            let rows: Vec<_> = rows.iter().map(|&(start, queries)| TokenRange { start, queries }).collect();
            numbers(&rows, 1)
        };
        assert!(numbers(&[(most, 1), (0, most - 1)]).is_ok());
        for rows in [[(most + 1, 1), (0, 1)], [(0, 1), (-1, 1)], [(0, 1), (0, most)], [(0, 1), (0, i64::MAX)]]
        {
            assert!(numbers(&rows).is_err(), "{rows:?}");
        }
    }

    #[test]
    fn tensors_of_other_sizes_are_errors_that_name_them() {
        let tensor = Tensor::zeros([7, 1, 8], (Kind::Float, Device::Cpu));
        assert!(check_rows("query", &tensor, 7..=7).is_ok());
        assert!(check_rows("key_values", &tensor, 6..=i64::MAX).is_ok());
        let of_kernel = "of attention to ranges of tokens does not match: 7 rows, expected";
        for (name, rows, expected) in
            [("query", 6..=6, "6 rows"), ("key_values", 8..=i64::MAX, "at least 8 rows")]
        {
            let error = check_rows(name, &tensor, rows).unwrap_err().to_string();
            assert_eq!(error, format!("{name} {of_kernel} {expected}"));
        }
    }
}
