//! Compares the kernels with LibTorch's operators on the device for which they were compiled.

use tch::{Kind, Tensor};

use super::{
    kernels::Fp8Kernels,
    rounding::{round_to_fp8, rounding_error},
};
use crate::{error::CudaError, random::random_normal};

/// Numbers of a check: two full blocks, and one that is not full.
const COUNT: i64 = 16 * (2 * 256 + 7);

/// The standard deviation of the numbers. Some are too large for FP8, and many have fractions.
const DEVIATION: f64 = 150.0;

/// The largest error of GELU in FP8. Its value may lie on either side of the middle of two numbers.
const GELU_ERROR: f64 = 1.01;

impl Fp8Kernels {
    /// Runs both kernels on random numbers and compares them with LibTorch's operators.
    ///
    /// Rounded numbers must be equal to the bit. Those of GELU may be either neighbour where the
    /// exact result lies between them. The call waits for the device.
    ///
    /// # Errors
    /// [`CudaError::SelfCheck`] if the results differ, or the error of a failed call.
    pub fn check(&self) -> Result<(), CudaError> {
        let _no_grad = tch::no_grad_guard();
        let large = random_normal(&[COUNT], Kind::Half, self.device())?.f_mul_scalar(DEVIATION)?;
        compare_rounded(&self.quantize(&large)?, &large)?;
        let small = large.f_div_scalar(DEVIATION / 2.0)?;
        compare_rounded(&self.quantize(&small)?, &small)?;
        compare_gelu(&self.gelu_quantize(&small)?, &small)
    }
}

fn compare_rounded(found: &Tensor, numbers: &Tensor) -> Result<(), CudaError> {
    let expected = round_to_fp8(numbers)?.f_to_kind(Kind::Half)?;
    // NaN equals no number, so NaN fails the check.
    if found.f_to_kind(Kind::Half)?.f_equal(&expected)? {
        return Ok(());
    }
    Err(CudaError::SelfCheck { kernel: "quantize", difference: "numbers differ".to_owned() })
}

fn compare_gelu(found: &Tensor, numbers: &Tensor) -> Result<(), CudaError> {
    let error = rounding_error(found, &numbers.f_to_kind(Kind::Double)?.f_gelu("none")?)?;
    // The comparison is false for NaN, so NaN fails the check.
    if error <= GELU_ERROR {
        return Ok(());
    }
    let difference = format!("GELU differs by {error:.1} times half a step");
    Err(CudaError::SelfCheck { kernel: "gelu_quantize", difference })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn checks_accept_roundings_and_reject_others() {
        let numbers = random_normal(&[4000], Kind::Half, Device::Cpu).unwrap();
        let rounded = round_to_fp8(&numbers).unwrap();
        compare_rounded(&rounded, &numbers).unwrap();
        let gelu = numbers.to_kind(Kind::Double).gelu("none");
        compare_gelu(&round_to_fp8(&gelu).unwrap(), &numbers).unwrap();
        for wrong in [&gelu * 1.05, &gelu * f64::NAN, numbers.to_kind(Kind::Double)] {
            let message = compare_gelu(&round_to_fp8(&wrong).unwrap(), &numbers).unwrap_err().to_string();
            assert!(message.starts_with("self-check of gelu_quantize failed: GELU differs by "), "{message}");
        }
        let doubled = rounded.to_kind(Kind::Half) * 2.0;
        let message = compare_rounded(&doubled, &numbers).unwrap_err().to_string();
        assert_eq!(message, "self-check of quantize failed: numbers differ");
    }
}
