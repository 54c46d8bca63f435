//! A linear layer in f32 on the CPU, its weight laid out as oneDNN's kernels read it.
//!
//! LibTorch's own `linear` rearranges the weight for every product anew, which few rows do not pay for: a step of the decoder
//! spends most of its time there.

use tch::{Device, Kind, TchError, Tensor};

use crate::layers::{
    linear::Linear,
    onednn::{After, PackedFloatWeight},
};

/// `x W^T + b`.
#[derive(Debug)]
pub(crate) struct PackedLinear {
    weight: PackedFloatWeight,
    /// `[out]`.
    bias: Tensor,
}

impl PackedLinear {
    /// Packs a layer in f32 on the CPU.
    pub(crate) fn new(linear: &Linear) -> Result<Self, TchError> {
        Ok(Self { weight: PackedFloatWeight::new(&linear.weight)?, bias: linear.bias.shallow_clone() })
    }

    /// Whether a layer can be packed.
    pub(crate) fn suits(linear: &Linear) -> bool {
        linear.weight.device() == Device::Cpu && linear.weight.kind() == Kind::Float
    }

    /// `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.weight.multiply(input, &self.bias, After::Nothing)
    }

    /// As [`Self::forward`], with the exact (erf) GELU of the result.
    pub(crate) fn forward_gelu(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.weight.multiply(input, &self.bias, After::Gelu)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::random_layers;

    /// The largest difference to the plain layer's results, for numbers around the square root of `inputs`.
    fn difference(packed: &Tensor, plain: &Tensor, inputs: i64) -> f64 {
        assert_eq!(packed.size(), plain.size());
        (packed - plain).abs().max().double_value(&[]) / (inputs as f64).sqrt()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_packed_layer_gives_what_the_plain_one_does(rows in 1i64..300, inputs in 1i64..200, outputs in 1i64..200) {
            let (linear, input) = (random_layers::linear(inputs, outputs), random_layers::tensor(&[rows, inputs]));
            let packed = PackedLinear::new(&linear).unwrap();
            let plain = linear.forward(&input).unwrap();
            prop_assert!(difference(&packed.forward(&input).unwrap(), &plain, inputs) < 1e-5);
            prop_assert!(difference(&packed.forward_gelu(&input).unwrap(), &plain.gelu("none"), inputs) < 1e-5);
        }
    }

    #[test]
    fn the_leading_dimensions_are_kept_and_views_are_read_as_they_are() {
        let linear = random_layers::linear(8, 5);
        let packed = PackedLinear::new(&linear).unwrap();
        let wide = random_layers::tensor(&[2, 3, 4, 8]);
        for input in [wide.shallow_clone(), wide.select(1, 1), wide.transpose(0, 2), wide.narrow(2, 1, 2)] {
            let plain = linear.forward(&input).unwrap();
            assert!(difference(&packed.forward(&input).unwrap(), &plain, 8) < 1e-5, "{:?}", input.size());
        }
    }

    #[test]
    fn what_is_no_number_stays_none_and_harms_no_other_row() {
        let packed = PackedLinear::new(&random_layers::linear(64, 70)).unwrap();
        for bad in [f64::NAN, f64::INFINITY] {
            let input = random_layers::tensor(&[9, 64]);
            let _ = input.get(4).get(3).fill_(bad);
            let output = packed.forward(&input).unwrap();
            let finite = output.isfinite().all_dim(1, false);
            assert_eq!(
                Vec::<bool>::try_from(finite).unwrap(),
                [1, 1, 1, 1, 0, 1, 1, 1, 1].map(|one| one == 1),
                "{bad}"
            );
        }
    }

    #[test]
    fn layers_in_f32_are_packed_and_others_are_left() {
        let layer = random_layers::linear(12, 7);
        assert!(PackedLinear::suits(&layer));
        for kind in [Kind::Half, Kind::BFloat16] {
            let layer = Linear { weight: layer.weight.to_kind(kind), bias: layer.bias.to_kind(kind) };
            assert!(!PackedLinear::suits(&layer), "{kind:?}");
        }
    }
}
