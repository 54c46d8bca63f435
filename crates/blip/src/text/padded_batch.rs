//! Questions of different lengths on the device.
//!
//! Attention needs them padded to one length. On the CPU, other layers compute them without padding
//! if this saves enough.

use tch::{Device, Kind, TchError, Tensor};

use crate::{device::transfer::to_device, layers::attention::padding_mask};

/// Padding is removed only if this saves at least `1 / MIN_PADDING_DIVISOR` of the padded tokens.
///
/// Removal copies what attention reads and writes. See `docs/decisions/padding.md`.
const MIN_PADDING_DIVISOR: usize = 16;

/// Without padding, the number of tokens is rounded up to a multiple of this.
///
/// oneDNN compiles kernels for each number of rows and caches a bounded number of them.
const TOKENS_STEP: usize = 32;

/// The token ids of a batch of questions.
#[derive(Debug)]
pub(crate) struct PaddedBatch {
    /// Token ids, `[rows, longest]`, with shorter questions padded.
    pub(crate) ids: Tensor,
    /// Mask, `[rows, 1, 1, mask width]`. `None` if all rows have the same length.
    pub(crate) padding: Option<Tensor>,
    /// Indices for computing without padding, if this saves enough.
    pub(crate) unpadding: Option<Unpadding>,
}

impl PaddedBatch {
    /// Transfers `questions` to the device.
    pub(crate) fn new(
        questions: &[&[i64]],
        pad_token_id: i64,
        device: Device,
        kind: Kind,
    ) -> Result<Self, TchError> {
        let lengths: Vec<i64> = questions.iter().map(|ids| ids.len() as i64).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let padded: Vec<i64> = questions
            .iter()
            .flat_map(|ids| {
                let padding = longest as usize - ids.len();
                ids.iter().copied().chain(std::iter::repeat_n(pad_token_id, padding))
            })
            .collect();
        let tokens = computed_tokens(questions.iter().map(|ids| ids.len()).sum());
        // CUDA was not measured. Removal adds kernel launches, which already bound small batches
        // there.
        let unpads = device == Device::Cpu
            // Padding repeats a token of the same question, so each question needs a token.
            && !lengths.contains(&0)
            && padded.len().saturating_sub(tokens) * MIN_PADDING_DIVISOR >= padded.len().max(1);
        Ok(Self {
            ids: to_device(&padded, device)?.f_view([questions.len() as i64, longest])?,
            padding: padding_mask(&lengths, device, kind)?,
            unpadding: unpads.then(|| Unpadding::new(&lengths, device)).transpose()?,
        })
    }

    /// Pads `states` for attention: `[tokens, width]` to `[rows, longest, width]`.
    ///
    /// States that have padding already are returned unchanged.
    pub(crate) fn pad(&self, states: Tensor) -> Result<Tensor, TchError> {
        match &self.unpadding {
            Some(unpadding) => unpadding.pad(&states),
            None => Ok(states),
        }
    }

    /// Reverses [`Self::pad`] and drops the states of padding.
    pub(crate) fn unpad(&self, states: Tensor) -> Result<Tensor, TchError> {
        match &self.unpadding {
            Some(unpadding) => unpadding.unpad(&states),
            None => Ok(states),
        }
    }
}

/// Returns the number of rows that are computed for `tokens` tokens.
fn computed_tokens(tokens: usize) -> usize {
    tokens.next_multiple_of(TOKENS_STEP)
}

/// Where each token of questions of different lengths is, with and without padding.
///
/// `tokens` is rounded up in all shapes. The first token fills the additional rows, whose results
/// are not read.
#[derive(Debug)]
pub(crate) struct Unpadding {
    /// `[tokens]` of i64: each token's position in its question.
    pub(crate) positions: Tensor,
    /// `[tokens]` of i64: each token's cell among `rows * longest`.
    cells: Tensor,
    /// `[rows * longest]` of i64: the token of each cell. In padding, a masked token of the same
    /// question.
    tokens: Tensor,
    rows: i64,
    longest: i64,
}

impl Unpadding {
    /// Computes the indices for questions of these lengths.
    fn new(lengths: &[i64], device: Device) -> Result<Self, TchError> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let (mut positions, mut cells, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for (row, &length) in (0..).zip(lengths) {
            let first = positions.len() as i64;
            positions.extend(0..length);
            cells.extend((0..length).map(|position| row * longest + position));
            tokens.extend((0..longest).map(|position| first + position.min(length - 1)));
        }
        let computed = computed_tokens(cells.len());
        positions.resize(computed, 0);
        cells.resize(computed, 0);
        Ok(Self {
            positions: to_device(&positions, device)?,
            cells: to_device(&cells, device)?,
            tokens: to_device(&tokens, device)?,
            rows: lengths.len() as i64,
            longest,
        })
    }

    /// Converts `[tokens, width]` to `[rows, longest, width]`.
    fn pad(&self, states: &Tensor) -> Result<Tensor, TchError> {
        states.f_index_select(0, &self.tokens)?.f_view([self.rows, self.longest, -1])
    }

    /// Converts `[rows, longest, ..]` to `[tokens, ..]`.
    pub(crate) fn unpad(&self, states: &Tensor) -> Result<Tensor, TchError> {
        states.f_flatten(0, 1)?.f_index_select(0, &self.cells)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(lengths: &[usize]) -> PaddedBatch {
        let ids: Vec<Vec<i64>> = (1..).zip(lengths).map(|(id, &length)| vec![id; length]).collect();
        let ids: Vec<&[i64]> = ids.iter().map(Vec::as_slice).collect();
        PaddedBatch::new(&ids, 0, Device::Cpu, Kind::Float).unwrap()
    }

    proptest! {
        #[test]
        fn every_token_after_a_round_trip_is_in_its_cell(lengths in prop::collection::vec(1usize..40, 1..40)) {
            let batch = batch(&lengths);
            let longest = *lengths.iter().max().unwrap();
            let cells = Tensor::arange((lengths.len() * longest) as i64, (Kind::Int64, Device::Cpu))
                .view([lengths.len() as i64, longest as i64, 1]);
            let round_trip = batch.pad(batch.unpad(cells.shallow_clone()).unwrap()).unwrap();
            prop_assert_eq!(round_trip.size(), cells.size());
            for (row, &length) in (0..).zip(&lengths) {
                let of_row = |tensor: &Tensor| tensor.get(row).narrow(0, 0, length as i64);
                prop_assert_eq!(of_row(&round_trip), of_row(&cells));
                let source_cell = round_trip.get(row).int64_value(&[longest as i64 - 1, 0]);
                prop_assert_eq!(source_cell / longest as i64, row, "padding repeats its question");
            }
        }

        #[test]
        fn tokens_without_padding_are_fewer_and_have_positions(
            lengths in prop::collection::vec(1usize..40, 1..40),
        ) {
            let batch = batch(&lengths);
            let padded = batch.ids.numel();
            if let Some(unpadding) = &batch.unpadding {
                let ids = Vec::<i64>::try_from(unpadding.unpad(&batch.ids).unwrap()).unwrap();
                let positions = Vec::<i64>::try_from(&unpadding.positions).unwrap();
                let expected = (1i64..).zip(&lengths).flat_map(|(id, &length)| (0..length as i64).map(move |at| (id, at)));
                let expected: Vec<(i64, i64)> = expected.collect();
                prop_assert!(ids.len() < padded && ids.len() == positions.len());
                let found: Vec<(i64, i64)> = ids.into_iter().zip(positions).collect();
                prop_assert_eq!(&found[..expected.len()], expected);
            }
        }
    }

    #[test]
    fn padding_above_the_minimum_is_removed() {
        assert!(batch(&[8; 20]).unpadding.is_none());
        assert!(batch(&[4, 40, 3, 5]).unpadding.is_some());
        assert!(batch(&[]).unpadding.is_none());
        assert!(batch(&[0, 40, 3]).unpadding.is_none());
    }
}
