//! Flash attention that reads keys and values in given ranges of a larger tensor.
//!
//! It is LibTorch's operator for rows of unequal lengths. With a number of tokens for each row, the
//! starts need not be in order, and rows need not fill the tensor. tch does not bind the operator.

use std::ops::RangeInclusive;

use tch::{Device, Kind, TchError, Tensor};

use super::self_check::Sample;
use crate::{error::CudaError, ffi::libtorch::StreamFunctions, stream::CudaStreams};

/// The name in errors.
const KERNEL: &str = "attention to ranges of tokens";

/// The largest head dim of flash attention, and the number that divides all head dims.
const MAX_HEAD_DIM: i64 = 256;
const HEAD_DIM_MULTIPLE: i64 = 8;

/// Flash attention to ranges of tokens. It was compared with attention to copies of the tokens.
#[derive(Debug, Clone, Copy)]
pub struct RangeAttention(&'static StreamFunctions);

/// For each row of queries, the range of tokens to which it attends.
#[derive(Debug)]
pub struct TokenRanges {
    functions: &'static StreamFunctions,
    /// Where each row of queries starts, and where the last one ends, in i32.
    query_starts: Tensor,
    /// Where the tokens of each row start, and one number that is not used, in i32.
    token_starts: Tensor,
    /// The number of tokens of each row, in i32.
    token_counts: Tensor,
    rows: i64,
    queries: i64,
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
    /// Returns ranges of `tokens` tokens that start at the tokens `starts`. Each has a row of
    /// `queries` queries.
    ///
    /// `upload` copies numbers to the device.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`], also for a start that is negative or too large for i32.
    pub fn ranges(
        self,
        starts: impl ExactSizeIterator<Item = i64> + Clone,
        queries: i64,
        tokens: i64,
        upload: impl FnOnce(&[i32]) -> Result<Tensor, TchError>,
    ) -> Result<TokenRanges, CudaError> {
        let rows = starts.len() as i64;
        let end = starts.clone().max().unwrap_or(0).saturating_add(tokens);
        let uploaded = upload(&numbers(starts, queries, tokens)?)?;
        let part = |first, count| uploaded.f_narrow(0, first, count);
        Ok(TokenRanges {
            functions: self.0,
            query_starts: part(0, rows + 1)?,
            token_starts: part(rows + 1, rows + 1)?,
            token_counts: part(2 * (rows + 1), rows)?,
            rows,
            queries,
            tokens,
            end,
        })
    }

    /// Returns the difference from attention to copies, see [`Sample::difference`].
    #[expect(clippy::disallowed_methods, reason = "a check may wait for the device")]
    fn difference(self, device: Device, kind: Kind, sizes: [i64; 3]) -> Result<f64, CudaError> {
        let sample = Sample::new(device, kind, sizes)?;
        let upload = |numbers: &[i32]| Tensor::f_from_slice(numbers)?.f_to_device(device);
        let [_, _, tokens] = sizes;
        let ranges = self.ranges(sample.starts(), Sample::QUERIES, tokens, upload)?;
        sample.difference(&ranges.attend(&sample.query, &sample.key_values)?)
    }
}

impl TokenRanges {
    /// Returns `softmax(query key^T / sqrt(head dim)) value` in the shape of `query` `[rows *
    /// queries, heads, head dim]`.
    ///
    /// `key_values` `[all tokens, 2, heads, head dim]` has the key and the value of each token.
    ///
    /// # Errors
    /// [`CudaError::TensorMismatch`] if the ranges do not fit the tensors, or
    /// [`CudaError::LibTorch`].
    pub fn attend(&self, query: &Tensor, key_values: &Tensor) -> Result<Tensor, CudaError> {
        let rows = self.rows * self.queries;
        check_rows("query", query, rows..=rows)?;
        check_rows("key_values", key_values, self.end..=i64::MAX)?;
        let (key, value) = (key_values.f_select(1, 0)?, key_values.f_select(1, 1)?);
        let ranges = [&self.query_starts, &self.token_starts, &self.token_counts];
        self.functions.attention_ranges([query, &key, &value], ranges, [self.queries, self.tokens])
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
fn numbers(
    starts: impl ExactSizeIterator<Item = i64>,
    queries: i64,
    tokens: i64,
) -> Result<Vec<i32>, TchError> {
    let rows = starts.len();
    let query_starts = (0..).take(rows + 1).map(|row: i64| row.saturating_mul(queries));
    let token_starts = starts.chain([0]);
    let token_counts = std::iter::repeat_n(tokens, rows);
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
            starts in prop::collection::vec(0i64..1 << 30, 1..40),
            queries in 1i64..200,
            tokens in 1i64..1_000,
        ) {
            let numbers = numbers(starts.iter().copied(), queries, tokens).unwrap();
            let (query_starts, rest) = numbers.split_at(starts.len() + 1);
            let (token_starts, counts) = rest.split_at(starts.len() + 1);
            let mut lengths = query_starts.windows(2).map(|pair| i64::from(pair[1] - pair[0]));
            prop_assert!(query_starts[0] == 0 && lengths.all(|length| length == queries));
            let found: Vec<i64> = token_starts[..starts.len()].iter().copied().map(i64::from).collect();
            prop_assert_eq!(found, starts.clone());
            prop_assert_eq!(counts.to_vec(), vec![i32::try_from(tokens).unwrap(); starts.len()]);
        }
    }

    #[test]
    fn starts_beyond_i32_and_negative_ones_are_errors() {
        assert!(numbers([i64::from(i32::MAX)].into_iter(), 1, 1).is_ok());
        assert!(numbers([i64::from(i32::MAX) + 1].into_iter(), 1, 1).is_err());
        assert!(numbers([-1].into_iter(), 1, 1).is_err());
        assert!(numbers([0; 2].into_iter(), i64::MAX, 1).is_err());
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
