//! A linear layer whose product is in FP8, for the image encoder on CUDA.
//!
//! `docs/decisions/fp8-images.md` explains the scales.

use std::rc::Rc;

use cuda::{Fp8Kernels, MAX_FP8, round_to_fp8};
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    device::torch_panics::return_torch_panics,
    error::{LoadError, ModelError},
    layers::linear::Linear,
};

/// The tensor cores need matrices whose sizes are multiples of this.
const SIZE_MULTIPLE: i64 = 16;

/// The largest error of a correct layer, relative to its largest result. Fast sums have fewer bits
/// than f32, and results are rounded to f16.
const MAX_ERROR: f64 = 0.01;

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

    /// Checks that `device` computes layers of these sizes, for an input of `rows` rows.
    ///
    /// The result for random numbers is compared with that of rounded numbers in f32.
    ///
    /// # Errors
    /// [`LoadError::NoFp8Products`] with the reason, or LibTorch's error if the device is lost or
    /// full.
    pub(crate) fn check(device: Device, [rows, inputs, outputs]: [i64; 3]) -> Result<(), LoadError> {
        let size = format!("layer of {inputs} inputs and {outputs} outputs");
        if [inputs, outputs].iter().any(|size| size % SIZE_MULTIPLE != 0) {
            let reason = format!("{size}, expected multiples of {SIZE_MULTIPLE}");
            return Err(LoadError::NoFp8Products(reason));
        }
        let error = return_torch_panics(|| Self::error_of_random_layer(device, [rows, inputs, outputs]));
        let error = error.map_err(failed_check)?;
        // The comparison is false for NaN, so NaN fails the check.
        if error <= MAX_ERROR {
            return Ok(());
        }
        Err(LoadError::NoFp8Products(format!("{size} differs by {error:.1e} of its largest result")))
    }

    /// Returns the largest error of a random layer in f16, relative to its largest result.
    #[expect(clippy::disallowed_methods, reason = "a check may wait for the device")]
    fn error_of_random_layer(device: Device, [rows, inputs, outputs]: [i64; 3]) -> Result<f64, TchError> {
        // The CPU makes the numbers, see `crates/cuda/src/random.rs`.
        let random = |size: &[i64]| {
            let numbers = Tensor::f_randn(size, (Kind::Float, Device::Cpu))?;
            numbers.f_to_device(device)?.f_to_kind(Kind::Half)
        };
        let layer = Linear { weight: random(&[outputs, inputs])?, bias: random(&[outputs])? };
        let (rounded, input) = (Self::new(&layer, None)?, round_to_fp8(&random(&[rows, inputs])?)?);
        let in_f32 = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
        let weight = in_f32(&rounded.weight)?.f_mul(&rounded.scale)?;
        let expected = in_f32(&input)?.f_matmul(&weight)?.f_add(&in_f32(&layer.bias)?)?;
        let error = in_f32(&rounded.forward(&input)?)?.f_sub(&expected)?.f_abs()?.f_max()?;
        error.f_div(&expected.f_abs()?.f_max()?)?.f_double_value(&[])
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

/// Returns the error of a check that LibTorch could not complete.
fn failed_check(error: TchError) -> LoadError {
    match ModelError::from(TchError::Torch(error.to_string())) {
        ModelError::Torch(_) => {
            let text = if let TchError::Torch(text) = error { text } else { error.to_string() };
            LoadError::NoFp8Products(text.lines().next().unwrap_or_default().to_owned())
        }
        _ => LoadError::Torch(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn random(size: &[i64], deviation: f64) -> Tensor {
        Tensor::randn(size, (Kind::Float, Device::Cpu)) * deviation
    }

    fn random_layer(inputs: i64, outputs: i64, deviation: f64, kind: Kind) -> Linear {
        let random = |size: &[i64], deviation| random(size, deviation).to_kind(kind);
        Linear { weight: random(&[outputs, inputs], deviation), bias: random(&[outputs], 1.0) }
    }

    /// Returns the layer's result with the rounding of inputs and weights, in f64.
    fn expected(input: &Tensor, layer: &Linear) -> Tensor {
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let weight = layer.weight.to_kind(Kind::Float);
        let scale = weight.abs().max() / MAX_FP8;
        let weight = double(&round_to_fp8(&(&weight / &scale)).unwrap()) * double(&scale);
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
            weights in 0.001f64..2.0,
            inputs_of in 0.01f64..200.0,
            (kind, rounding) in prop::sample::select(vec![(Kind::Float, 1e-5), (Kind::Half, 2e-3)]),
        ) {
            let (inputs, outputs) = (16 * inputs, 16 * outputs);
            let layer = random_layer(inputs, outputs, weights, kind);
            let input = random(&[rows, 3, inputs], inputs_of).to_kind(kind);
            let fp8 = Fp8Linear::new(&layer, None).unwrap();
            let found = fp8.forward(&input).unwrap();
            prop_assert_eq!((found.size(), found.kind()), (vec![rows, 3, outputs], kind));
            let expected = expected(&input, &layer);
            let largest = expected.abs().max().double_value(&[]);
            prop_assert!(distance(&found, &expected) <= largest * rounding);
            // Rounded inputs give the same result.
            prop_assert_eq!(fp8.forward(&round_to_fp8(&input).unwrap()).unwrap(), found);
        }
    }

    #[test]
    fn gelu_follows_the_product() {
        let layer = random_layer(16, 32, 0.5, Kind::Half);
        let (fp8, input) = (Fp8Linear::new(&layer, None).unwrap(), random(&[2, 5, 16], 1.0));
        let input = input.to_kind(Kind::Half);
        let found = fp8.forward_gelu(&input).unwrap();
        assert_eq!((found.size(), found.kind()), (vec![2, 5, 32], Kind::Float8e4m3fn));
        let expected = expected(&input, &layer).gelu("none");
        assert!(distance(&found, &expected) <= expected.abs().max().double_value(&[]) / 15.0);
    }

    #[test]
    fn check_compares_the_product_and_names_the_sizes() {
        Fp8Linear::check(Device::Cpu, [5, 16, 32]).unwrap();
        let error = Fp8Linear::error_of_random_layer(Device::Cpu, [5, 64, 32]).unwrap();
        assert!(error > 0.0 && error < 1e-3, "{error}");
        let message = Fp8Linear::check(Device::Cpu, [1, 16, 40]).unwrap_err().to_string();
        let reason = "layer of 16 inputs and 40 outputs, expected multiples of 16";
        assert_eq!(message, format!("vision_dtype fp8 is not available: {reason}"));
    }

    #[test]
    fn failed_checks_keep_the_class_of_their_error() {
        let failed = |text: &str| failed_check(TchError::Torch(text.to_owned())).to_string();
        let of_device = "torch._scaled_mm is only supported on CUDA devices";
        assert_eq!(
            failed(&format!("{of_device}\nException raised from")),
            format!("vision_dtype fp8 is not available: {of_device}")
        );
        for text in ["CUDA out of memory. Tried to allocate", "CUDA error: unspecified launch failure"] {
            assert!(failed(text).starts_with("libtorch: "), "{text}");
        }
    }

    #[test]
    fn weights_of_zero_return_the_bias() {
        let layer = random_layer(16, 16, 0.0, Kind::Float);
        let found = Fp8Linear::new(&layer, None).unwrap().forward(&random(&[1, 16], 3.0)).unwrap();
        assert_eq!(found.get(0), layer.bias);
    }
}
