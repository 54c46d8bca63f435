//! What rounding to FP8 is, with LibTorch's operators.

use tch::{Kind, TchError, Tensor};

/// The largest number in FP8. Larger ones become it.
pub const MAX_FP8: f64 = 448.0;

/// The smallest distance of two numbers in FP8.
const SMALLEST_STEP: f64 = 1.0 / 512.0;

/// Returns `numbers` in FP8, of the same size. LibTorch computes it, in two kernels.
///
/// # Errors
/// The error of LibTorch.
pub fn round_to_fp8(numbers: &Tensor) -> Result<Tensor, TchError> {
    numbers.f_clamp(-MAX_FP8, MAX_FP8)?.f_to_kind(Kind::Float8e4m3fn)
}

/// Returns the largest error of `found` in FP8, relative to half the distance of the two numbers in
/// FP8 around the exact one.
///
/// Correct results have at most 1. It is NaN if a result is.
///
/// # Errors
/// The error of LibTorch.
pub fn rounding_error(found: &Tensor, exact: &Tensor) -> Result<f64, TchError> {
    let exact = exact.f_to_kind(Kind::Double)?.f_clamp(-MAX_FP8, MAX_FP8)?;
    // Three bits follow the leading one. `frexp` returns an exponent that is greater by one.
    let (_, exponent) = exact.f_frexp()?;
    let half_step = exponent.f_to_kind(Kind::Double)?.f_sub_scalar(5.0)?.f_exp2()?;
    let half_step = half_step.f_clamp_min(SMALLEST_STEP / 2.0)?;
    let error = found.f_to_kind(Kind::Double)?.f_sub(&exact)?.f_abs()?.f_div(&half_step)?;
    error.f_max()?.f_double_value(&[])
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn doubles(numbers: &[f64]) -> Tensor {
        Tensor::from_slice(numbers)
    }

    #[test]
    fn rounding_saturates_and_keeps_nan() {
        let rounded = |number: f64| {
            let rounded = round_to_fp8(&doubles(&[number])).unwrap();
            assert_eq!((rounded.kind(), rounded.device()), (Kind::Float8e4m3fn, Device::Cpu));
            rounded.to_kind(Kind::Double).double_value(&[0])
        };
        for (number, expected) in [
            (1.0, 1.0),
            (1.0625, 1.0),
            (1.0626, 1.125),
            (-300.0, -288.0),
            (500.0, 448.0),
            (f64::NEG_INFINITY, -448.0),
            (0.001, 0.001_953_125),
            (0.0009, 0.0),
        ] {
            assert_eq!(rounded(number), expected, "{number}");
        }
        assert!(rounded(f64::NAN).is_nan());
    }

    #[test]
    fn rounding_error_is_one_for_the_worst_correct_result() {
        let error = |exact: f64, found: f64| rounding_error(&doubles(&[found]), &doubles(&[exact])).unwrap();
        assert_eq!(error(1.0, 1.0), 0.0);
        assert_eq!(error(1.0625, 1.0), 1.0);
        assert_eq!(error(1.0625, 1.125), 1.0);
        // The wrong one of two neighbours, at the end of a range of equal distances.
        assert!(error(1.9, 2.0) > 1.5);
        assert!(error(-1.05, -1.125) > 1.1);
        assert_eq!(error(1.0 / 1024.0, 0.0), 1.0);
        assert_eq!(error(1000.0, 448.0), 0.0);
        assert!(error(1.0, f64::NAN).is_nan());
        let random = Tensor::randn([5000], (Kind::Double, Device::Cpu)) * 30.0;
        assert!(rounding_error(&round_to_fp8(&random).unwrap(), &random).unwrap() <= 1.0);
    }
}
