//! Compares the kernels with LibTorch's operators on the device for which they were compiled.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::{add_norm::NormKernels, source::NormShape};
use crate::{error::CudaError, fp8::rounding_error, random::random_normal, storage::Storage};

/// Three full blocks and one that is not full.
const ROWS: i64 = 14;

/// The mean of the rows, in standard deviations. It exposes a kernel that ignores the mean.
const MEAN: f64 = 4.0;

/// Random rows, and the parameters of their norm.
struct Sample {
    shape: NormShape,
    states: Tensor,
    delta: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl Sample {
    fn new(shape: NormShape, device: Device) -> Result<Self, CudaError> {
        let (kind, width) = (shape.storage().kind(), shape.width());
        let random = |size: &[i64]| random_normal(size, kind, device);
        Ok(Self {
            shape,
            states: random(&[ROWS, width])?.f_add_scalar(MEAN)?,
            delta: random(&[ROWS, width])?,
            weight: random(&[width])?,
            bias: random(&[width])?,
        })
    }

    /// Returns the sum and its norm as LibTorch computes them.
    fn expected(&self) -> Result<(Tensor, Tensor), CudaError> {
        let sum = self.states.f_add(&self.delta)?;
        let (width, eps) = ([self.shape.width()], self.shape.eps());
        let normed = sum.f_layer_norm(width, Some(&self.weight), Some(&self.bias), eps, false)?;
        Ok((sum, normed))
    }
}

impl NormKernels {
    /// Runs each kernel on random rows and compares them with LibTorch's two operators.
    ///
    /// The sums must be equal to the bit. The norms may differ by the order of additions and by two
    /// roundings. The call waits for the device.
    ///
    /// # Errors
    /// [`CudaError::SelfCheck`] if the results differ, or the error of a failed call.
    pub fn check(self: &Rc<Self>) -> Result<(), CudaError> {
        let _no_grad = tch::no_grad_guard();
        let sample = Sample::new(self.shape(), self.device())?;
        let storage = sample.shape.storage();
        let (sum, normed) = sample.expected()?;
        let norm = self.with(&sample.weight, &sample.bias)?;
        let mut states = sample.states.f_detach_copy()?;
        let found = norm.add_then_norm(&mut states, &sample.delta)?;
        compare("pre_norm", storage, &found, &normed)?;
        if !states.f_equal(&sum)? {
            return Err(CudaError::SelfCheck { kernel: "pre_norm", difference: "sum differs".to_owned() });
        }
        let found = norm.norm_of_sum(sample.states.f_detach_copy()?, &sample.delta)?;
        compare("post_norm", storage, &found, &normed)?;
        if !self.shape().has_fp8_norms() {
            return Ok(());
        }
        let mut states = sample.states.f_detach_copy()?;
        let found = norm.with_fp8_norms().add_then_norm(&mut states, &sample.delta)?;
        if !states.f_equal(&sum)? {
            let difference = "sum differs".to_owned();
            return Err(CudaError::SelfCheck { kernel: "pre_norm_fp8", difference });
        }
        compare_fp8(&found, &normed)
    }
}

/// Checks that `found` and `expected` differ no more than two correct computations can.
///
/// - Both results are rounded, so they may be neighbours. Neighbours in f16 are `2^-10` of their
///   value apart. In f32 they are `2^-23` apart, and the arithmetic before the rounding adds a few
///   of these.
/// - A result near 0 is a difference of larger numbers. The rows have a mean of four deviations and
///   weights up to five. Another order of additions changes the result by less than `2^-16`.
fn compare(
    kernel: &'static str,
    storage: Storage,
    found: &Tensor,
    expected: &Tensor,
) -> Result<(), CudaError> {
    let relative = match storage {
        Storage::Half => 2f64.powi(-10),
        Storage::Float => 2f64.powi(-20),
    };
    let expected = expected.f_to_kind(Kind::Double)?;
    let error = found.f_to_kind(Kind::Double)?.f_sub(&expected)?.f_abs()?;
    let allowed = expected.f_abs()?.f_mul_scalar(relative)?.f_add_scalar(2f64.powi(-16))?;
    let worst = error.f_div(&allowed)?.f_max()?.f_double_value(&[])?;
    // The comparison is false for NaN, so NaN fails the check.
    if worst <= 1.0 {
        return Ok(());
    }
    let difference = format!("norm differs by {worst:.1} times the tolerance");
    Err(CudaError::SelfCheck { kernel, difference })
}

/// Checks that `found` in FP8 is `expected`, which is rounded to f16.
fn compare_fp8(found: &Tensor, expected: &Tensor) -> Result<(), CudaError> {
    let error = rounding_error(found, expected)?;
    // As above for NaN. The rounding to f16 is 2^-7 of half a step.
    if error <= 1.02 {
        return Ok(());
    }
    let difference = format!("norm differs by {error:.1} times half a step");
    Err(CudaError::SelfCheck { kernel: "pre_norm_fp8", difference })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_accepts_neighbours_and_rejects_more() {
        for (storage, kind) in [(Storage::Half, Kind::Half), (Storage::Float, Kind::Float)] {
            let shape = NormShape::new(768, 1e-5, storage).unwrap();
            let sample = Sample::new(shape, Device::Cpu).unwrap();
            let (sum, normed) = sample.expected().unwrap();
            let check = |found: &Tensor| compare("pre_norm", storage, found, &normed);
            // A norm in f64 that is rounded once stands for another correct computation.
            let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
            let (weight, bias) = (double(&sample.weight), double(&sample.bias));
            let other =
                |sum: &Tensor| sum.layer_norm([768], Some(&weight), Some(&bias), 1e-5, false).to_kind(kind);
            check(&normed).unwrap();
            check(&other(&double(&sum))).unwrap();
            assert!(check(&(&normed * 1.004)).is_err());
            assert!(check(&(&normed * f64::NAN)).is_err());
            if storage == Storage::Half {
                // The sum is not rounded before its norm.
                let unrounded = double(&sample.states) + double(&sample.delta);
                let error = check(&other(&unrounded)).unwrap_err().to_string();
                assert!(error.starts_with("self-check of pre_norm failed: norm differs by "), "{error}");
            }
        }
    }
}
