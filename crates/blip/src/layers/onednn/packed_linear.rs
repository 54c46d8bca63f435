//! A linear layer in f32 on the CPU, with its weight in oneDNN's layout.
//!
//! LibTorch's `linear` converts the weight to this layout for every product. For few rows this
//! costs more than the product: a decoding step would spend most of its time on it.

use tch::{Device, Kind, TchError, Tensor};

use crate::layers::{
    linear::Linear,
    onednn::interface::{PackedFloatWeight, PostOp},
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

    /// Returns whether a layer can be packed: f32 on the CPU.
    pub(crate) fn is_supported(linear: &Linear) -> bool {
        linear.weight.device() == Device::Cpu && linear.weight.kind() == Kind::Float
    }

    /// Computes the layer, `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.weight.multiply(input, &self.bias, PostOp::None)
    }

    /// Computes the layer and the exact (erf) GELU of its result, `[.., in]` to `[.., out]`.
    pub(crate) fn forward_gelu(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.weight.multiply(input, &self.bias, PostOp::Gelu)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::random_layers;

    /// Returns the largest difference from the plain layer, divided by the square root of `inputs`.
    fn difference(packed: &Tensor, plain: &Tensor, inputs: i64) -> f64 {
        assert_eq!(packed.size(), plain.size());
        (packed - plain).abs().max().double_value(&[]) / (inputs as f64).sqrt()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn packed_layer_equals_plain_layer(rows in 1i64..300, inputs in 1i64..200, outputs in 1i64..200) {
            let (linear, input) = (random_layers::linear(inputs, outputs), random_layers::tensor(&[rows, inputs]));
            let packed = PackedLinear::new(&linear).unwrap();
            let plain = linear.forward(&input).unwrap();
            prop_assert!(difference(&packed.forward(&input).unwrap(), &plain, inputs) < 1e-5);
            prop_assert!(difference(&packed.forward_gelu(&input).unwrap(), &plain.gelu("none"), inputs) < 1e-5);
        }
    }

    #[test]
    fn views_are_accepted_with_leading_dimensions() {
        let linear = random_layers::linear(8, 5);
        let packed = PackedLinear::new(&linear).unwrap();
        let wide = random_layers::tensor(&[2, 3, 4, 8]);
        for input in [wide.shallow_clone(), wide.select(1, 1), wide.transpose(0, 2), wide.narrow(2, 1, 2)] {
            let plain = linear.forward(&input).unwrap();
            assert!(difference(&packed.forward(&input).unwrap(), &plain, 8) < 1e-5, "{:?}", input.size());
        }
    }

    #[test]
    fn non_finite_input_affects_only_its_row() {
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
    fn only_f32_layers_can_be_packed() {
        let layer = random_layers::linear(12, 7);
        assert!(PackedLinear::is_supported(&layer));
        for kind in [Kind::Half, Kind::BFloat16] {
            let layer = Linear { weight: layer.weight.to_kind(kind), bias: layer.bias.to_kind(kind) };
            assert!(!PackedLinear::is_supported(&layer), "{kind:?}");
        }
    }
}
