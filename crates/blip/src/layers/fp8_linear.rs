//! A linear layer whose product is in FP8, for the image encoder on CUDA.
//!
//! `docs/decisions/fp8-images.md` explains the scales.

use std::rc::Rc;

use cuda::{Fp8Kernels, MAX_FP8, round_to_fp8};
use tch::{Device, Kind, TchError, Tensor};

use crate::{error::LoadError, layers::linear::Linear};

/// The tensor cores need matrices whose sizes are multiples of this.
const SIZE_MULTIPLE: i64 = 16;

/// `x W^T + b` with `x` and `W` rounded to FP8. Sums are in f32, results in the format of `b`.
#[derive(Debug)]
pub(crate) struct Fp8Linear {
    /// `[in, out]` in FP8, a view of `[out, in]`, divided by `scale`.
    weight: Tensor,
    /// `[]` in f32.
    scale: Tensor,
    /// The scale of inputs, which have none.
    one: Tensor,
    /// `[out]`.
    bias: Tensor,
    /// `None` if LibTorch rounds inputs.
    kernels: Option<Rc<Fp8Kernels>>,
}

impl Fp8Linear {
    /// Rounds the weights of `linear`.
    pub(crate) fn new(linear: &Linear, kernels: Option<Rc<Fp8Kernels>>) -> Result<Self, TchError> {
        let weight = linear.weight.f_to_kind(Kind::Float)?;
        // A layer whose weights are all 0 needs a scale above 0.
        let scale =
            weight.f_abs()?.f_max()?.f_div_scalar(MAX_FP8)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
        let one = Tensor::f_ones([], (Kind::Float, weight.device()))?;
        let weight = round_to_fp8(&weight.f_div(&scale)?)?.f_transpose(0, 1)?;
        Ok(Self { weight, scale, one, bias: linear.bias.shallow_clone(), kernels })
    }

    /// Checks that `device` multiplies matrices of `inputs` and `outputs` in FP8.
    ///
    /// # Errors
    /// [`LoadError::NoFp8Products`] with the reason.
    pub(crate) fn check(device: Device, inputs: i64, outputs: i64) -> Result<(), LoadError> {
        if [inputs, outputs].iter().any(|size| size % SIZE_MULTIPLE != 0) {
            let reason = format!(
                "layer of {inputs} inputs and {outputs} outputs, expected multiples of {SIZE_MULTIPLE}"
            );
            return Err(LoadError::NoFp8Products(reason));
        }
        let multiply = || {
            let zeros = |size: &[i64]| Tensor::f_zeros(size, (Kind::Half, device));
            let layer = Linear { weight: zeros(&[outputs, inputs])?, bias: zeros(&[outputs])? };
            Self::new(&layer, None)?.forward(&zeros(&[1, inputs])?)
        };
        let reason = |error: TchError| match error {
            TchError::Torch(text) => text.lines().next().unwrap_or_default().to_owned(),
            other => other.to_string(),
        };
        multiply().map(drop).map_err(|error| LoadError::NoFp8Products(reason(error)))
    }

    /// Computes the layer, `[.., in]` to `[.., out]`. The input may be rounded already.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let (inputs, outputs) = self.weight.size2()?;
        let mut size = input.size();
        if let Some(last) = size.last_mut() {
            *last = outputs;
        }
        let rounded = match (input.kind(), &self.kernels) {
            (Kind::Float8e4m3fn, _) => input.shallow_clone(),
            (_, Some(kernels)) => kernels.quantize(input)?,
            (_, None) => round_to_fp8(input)?,
        };
        let rows = rounded.f_reshape([-1, inputs])?;
        let (kind, fast_sums) = (self.bias.kind(), true);
        let product = rows.f_internal_scaled_mm(
            &self.weight,
            &self.one,
            &self.scale,
            Some(&self.bias),
            None,
            kind,
            fast_sums,
        )?;
        product.f_view(size.as_slice())
    }

    /// Computes the layer and the GELU of its result in FP8, `[.., in]` to `[.., out]`.
    pub(crate) fn forward_gelu(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut product = self.forward(input)?;
        match &self.kernels {
            Some(kernels) => Ok(kernels.gelu_quantize(&product)?),
            None => round_to_fp8(&product.f_gelu_("none")?),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn random(size: &[i64], deviation: f64) -> Tensor {
        Tensor::randn(size, (Kind::Float, Device::Cpu)) * deviation
    }

    /// Returns the layer's result with the rounding of inputs and weights, in f64.
    fn expected(input: &Tensor, layer: &Linear) -> Tensor {
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let scale = layer.weight.abs().max() / MAX_FP8;
        let weight = double(&round_to_fp8(&(&layer.weight / &scale)).unwrap()) * double(&scale);
        double(&round_to_fp8(input).unwrap()).linear(&weight, Some(double(&layer.bias)))
    }

    fn distance(found: &Tensor, expected: &Tensor) -> f64 {
        (found.to_kind(Kind::Double) - expected).abs().max().double_value(&[])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn products_are_those_of_rounded_numbers(
            rows in 1i64..5,
            inputs in 1i64..5,
            outputs in 1i64..5,
            weights in 0.001f64..10.0,
            inputs_of in 0.01f64..200.0,
        ) {
            let (inputs, outputs) = (16 * inputs, 16 * outputs);
            let layer = Linear { weight: random(&[outputs, inputs], weights), bias: random(&[outputs], 1.0) };
            let input = random(&[rows, 3, inputs], inputs_of);
            let fp8 = Fp8Linear::new(&layer, None).unwrap();
            let found = fp8.forward(&input).unwrap();
            prop_assert_eq!((found.size(), found.kind()), (vec![rows, 3, outputs], Kind::Float));
            let expected = expected(&input, &layer);
            let largest = expected.abs().max().double_value(&[]);
            prop_assert!(distance(&found, &expected) <= largest * 1e-5);
            // Rounded inputs give the same result.
            prop_assert_eq!(fp8.forward(&round_to_fp8(&input).unwrap()).unwrap(), found);
        }
    }

    #[test]
    fn gelu_follows_the_product() {
        let layer = Linear { weight: random(&[32, 16], 0.5), bias: random(&[32], 1.0) };
        let (fp8, input) = (Fp8Linear::new(&layer, None).unwrap(), random(&[2, 5, 16], 1.0));
        let found = fp8.forward_gelu(&input).unwrap();
        assert_eq!((found.size(), found.kind()), (vec![2, 5, 32], Kind::Float8e4m3fn));
        let expected = expected(&input, &layer).gelu("none");
        assert!(distance(&found, &expected) <= expected.abs().max().double_value(&[]) / 15.0);
    }

    #[test]
    fn matrices_that_cannot_be_multiplied_are_named() {
        Fp8Linear::check(Device::Cpu, 16, 32).unwrap();
        let message = Fp8Linear::check(Device::Cpu, 16, 40).unwrap_err().to_string();
        let reason = "layer of 16 inputs and 40 outputs, expected multiples of 16";
        assert_eq!(message, format!("vision_dtype fp8 is not available: {reason}"));
    }

    #[test]
    fn weights_of_zero_return_the_bias() {
        let layer = Linear { weight: random(&[16, 16], 0.0), bias: random(&[16], 1.0) };
        let found = Fp8Linear::new(&layer, None).unwrap().forward(&random(&[1, 16], 3.0)).unwrap();
        assert_eq!(found.get(0), layer.bias);
    }
}
