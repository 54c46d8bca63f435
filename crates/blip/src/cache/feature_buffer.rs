//! The features of an image in main memory.

use std::{borrow::Cow, sync::Arc};

use cpu_kernels::{NumberFormat, from_bf16, to_bf16};

/// Features of one image, `[tokens, hidden]`. All engines share them by reference count.
///
/// In bf16 they are rounded as the products of texts round them. Where the processor has such
/// products, no answer changes.
#[derive(Debug, Clone)]
pub(crate) enum FeatureBuffer {
    F32(Arc<[f32]>),
    /// The bits of numbers in bf16.
    Bf16(Arc<[u16]>),
}

impl FeatureBuffer {
    /// Copies `features` for texts in `format`.
    pub(crate) fn new(features: &[f32], format: NumberFormat) -> Self {
        match format {
            NumberFormat::Bf16 => Self::Bf16(features.iter().copied().map(to_bf16).collect()),
            // The scale of an int8 row would depend on the rounding.
            NumberFormat::F32 | NumberFormat::Int8 => Self::F32(features.into()),
        }
    }

    /// Returns the size of a number for texts in `format`, in bytes.
    pub(crate) fn number_bytes(format: NumberFormat) -> usize {
        match format {
            NumberFormat::Bf16 => size_of::<u16>(),
            NumberFormat::F32 | NumberFormat::Int8 => size_of::<f32>(),
        }
    }

    /// Returns the features in f32.
    pub(crate) fn numbers(&self) -> Cow<'_, [f32]> {
        match self {
            Self::F32(numbers) => Cow::Borrowed(numbers),
            Self::Bf16(bits) => bits.iter().copied().map(from_bf16).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_rounded_for_texts_that_round_them() {
        let features = [1.0, -3.0e-5, 1.001, f32::NAN];
        for format in [NumberFormat::F32, NumberFormat::Int8] {
            assert_eq!(FeatureBuffer::new(&features, format).numbers()[..3], features[..3]);
        }
        let rounded = FeatureBuffer::new(&features, NumberFormat::Bf16);
        let numbers = rounded.numbers();
        assert_eq!((numbers[0], numbers[2]), (1.0, 1.0));
        assert!((numbers[1] / features[1] - 1.0).abs() < 1.0 / 256.0 && numbers[3].is_nan());
    }
}
