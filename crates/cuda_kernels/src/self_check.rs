//! Kernels against LibTorch's operators, on the device that they were compiled for.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::{
    add_norm::NormKernels,
    error::KernelError,
    source::{NormShape, Storage},
};

/// More than three blocks, the last of them not full.
const ROWS: i64 = 14;

/// The mean of the rows, in standard deviations: above 0, so that a mean that is not taken off shows.
const MEAN: f64 = 4.0;

/// Random rows, and what they are to be normalised with.
struct Sample {
    shape: NormShape,
    states: Tensor,
    delta: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl Sample {
    fn new(shape: NormShape, device: Device) -> Result<Self, KernelError> {
        let (kind, width) = (shape.storage().kind(), shape.width());
        let random = |size: &[i64]| Tensor::f_randn(size, (kind, device));
        Ok(Self {
            shape,
            states: random(&[ROWS, width])?.f_add_scalar(MEAN)?,
            delta: random(&[ROWS, width])?,
            weight: random(&[width])?,
            bias: random(&[width])?,
        })
    }

    /// What LibTorch makes of them: the sum and its norm.
    fn expected(&self) -> Result<(Tensor, Tensor), KernelError> {
        let sum = self.states.f_add(&self.delta)?;
        let (width, eps) = ([self.shape.width()], self.shape.eps());
        let normed = sum.f_layer_norm(width, Some(&self.weight), Some(&self.bias), eps, false)?;
        Ok((sum, normed))
    }
}

impl NormKernels {
    /// Runs both kernels on random rows and compares them with LibTorch's two operators: the sum to the bit, the norms as far as
    /// the order of additions and two roundings to the nearest let them differ. Waits for the device.
    ///
    /// # Errors
    /// [`KernelError::Disagrees`], or what the driver refused.
    pub fn check(self: &Rc<Self>) -> Result<(), KernelError> {
        let _no_grad = tch::no_grad_guard();
        let sample = Sample::new(self.shape(), self.device())?;
        let (sum, normed) = sample.expected()?;
        let kernel = self.with(&sample.weight, &sample.bias)?;
        let mut states = sample.states.f_detach_copy()?;
        let found = kernel.add_then_norm(&mut states, &sample.delta)?;
        agree("pre_norm", sample.shape.storage(), &found, &normed)?;
        if !states.f_equal(&sum)? {
            return Err(KernelError::Disagrees { kernel: "pre_norm", what: "sum differs".to_owned() });
        }
        let found = kernel.norm_of_sum(sample.states.f_detach_copy()?, &sample.delta)?;
        agree("post_norm", sample.shape.storage(), &found, &normed)
    }
}

/// Whether `found` is as near to `expected` as two ways of equal worth are.
///
/// Each is rounded to the nearest, so that they may be neighbours: in f16 `2^-10` of the number apart, in f32 `2^-23`, for which
/// the f32 arithmetic before it leaves a few more. What is near 0 is a difference of larger numbers: of rows four deviations from
/// 0, and with weights of up to five, additions in another order change it by less than `2^-16`.
fn agree(
    kernel: &'static str,
    storage: Storage,
    found: &Tensor,
    expected: &Tensor,
) -> Result<(), KernelError> {
    let last_places = match storage {
        Storage::Half => 2f64.powi(-10),
        Storage::Float => 2f64.powi(-20),
    };
    let expected = expected.f_to_kind(Kind::Double)?;
    let apart = found.f_to_kind(Kind::Double)?.f_sub(&expected)?.f_abs()?;
    let allowed = expected.f_abs()?.f_mul_scalar(last_places)?.f_add_scalar(2f64.powi(-16))?;
    let worst = apart.f_div(&allowed)?.f_max()?.f_double_value(&[])?;
    // Not a number is above nothing: asked this way, it disagrees.
    if worst <= 1.0 {
        return Ok(());
    }
    Err(KernelError::Disagrees { kernel, what: format!("norm differs {worst:.1} times as much as it may") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_agree_and_what_is_further_apart_does_not() {
        for (storage, kind) in [(Storage::Half, Kind::Half), (Storage::Float, Kind::Float)] {
            let shape = NormShape::new(768, 1e-5, storage).unwrap();
            let sample = Sample::new(shape, Device::Cpu).unwrap();
            let (sum, normed) = sample.expected().unwrap();
            let judged = |found: &Tensor| agree("pre_norm", storage, found, &normed);
            // The same in f64, rounded once: the arithmetic of another way that is right.
            let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
            let (weight, bias) = (double(&sample.weight), double(&sample.bias));
            let other =
                |sum: &Tensor| sum.layer_norm([768], Some(&weight), Some(&bias), 1e-5, false).to_kind(kind);
            judged(&normed).unwrap();
            judged(&other(&double(&sum))).unwrap();
            assert!(judged(&(&normed * 1.004)).is_err());
            assert!(judged(&(&normed * f64::NAN)).is_err());
            if storage == Storage::Half {
                // The sum not rounded before it is normalised.
                let unrounded = double(&sample.states) + double(&sample.delta);
                let error = judged(&other(&unrounded)).unwrap_err().to_string();
                assert!(error.starts_with("pre_norm disagrees with libtorch: norm differs "), "{error}");
            }
        }
    }
}
