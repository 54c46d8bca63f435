//! Elementwise functions: GELU and the exponential, a vector at a time.

use pulp::{Arch, Simd, WithSimd};

/// Below this magnitude `erf(x)` is computed as `x P(x^2) / Q(x^2)`. Above it `erf(x)` is 1 to the
/// last bit.
///
/// The first coefficient is that of the Taylor series around 0. The others are a least-squares fit
/// on Chebyshev nodes, reweighted until the largest error was minimal: 1.9e-8, and 3.5e-7 with the
/// rounding of f32.
const ERF_LIMIT: f32 = 3.925;
const ERF_NUMERATOR: [f32; 6] = [
    std::f32::consts::FRAC_2_SQRT_PI,
    0.190_465_91,
    0.052_752_38,
    0.003_766_321_8,
    0.000_284_545_13,
    2.045_356e-6,
];
const ERF_DENOMINATOR: [f32; 6] =
    [1.0, 0.502_129_14, 0.114_129_305, 0.014_971_977, 0.001_161_987_9, 3.802_431e-5];

/// The Taylor coefficients of `e^x`: `1 / n!`.
const EXP_COEFFICIENTS: [f32; 8] =
    [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5_040.0];

/// Arguments of `exp` are clamped to this range, in which `e^x` is a normal number.
const EXP_MIN: f32 = -87.0;
const EXP_MAX: f32 = 88.0;

/// Adding `1.5 * 2^23` rounds a value to an integer, which is then in the lowest bits of the sum.
const ROUNDING_BIAS: f32 = 12_582_912.0;

/// ln 2 in two parts: its upper bits, whose small multiples are exact, and the remainder.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// Evaluates a polynomial by Horner's rule. The constant term comes first.
#[inline(always)]
fn polynomial<S: Simd>(simd: S, coefficients: &[f32], x: S::f32s) -> S::f32s {
    let mut value = simd.splat_f32s(0.0);
    for &coefficient in coefficients.iter().rev() {
        value = simd.mul_add_e_f32s(value, x, simd.splat_f32s(coefficient));
    }
    value
}

/// Computes the exact GELU: `x (1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let scaled = simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
    let square = simd.mul_f32s(scaled, scaled);
    let numerator = simd.mul_f32s(scaled, polynomial(simd, &ERF_NUMERATOR, square));
    let erf = simd.div_f32s(numerator, polynomial(simd, &ERF_DENOMINATOR, square));
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    let near_0 = simd.less_than_f32s(simd.abs_f32s(scaled), simd.splat_f32s(ERF_LIMIT));
    // NaN is preserved: the maximum returns its second operand if one of them is NaN.
    let tail = simd.max_f32s(simd.splat_f32s(0.0), x);
    simd.select_f32s(near_0, simd.mul_add_e_f32s(half, erf, half), tail)
}

/// Computes `e^x`. Arguments below -87 give `e^-87`, which is about 1e-38.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // NaN is preserved, as in `gelu`.
    let x = simd.max_f32s(simd.splat_f32s(EXP_MIN), simd.min_f32s(simd.splat_f32s(EXP_MAX), x));
    let rounding_bias = simd.splat_f32s(ROUNDING_BIAS);
    let rounded = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), rounding_bias);
    let integer = simd.sub_f32s(rounded, rounding_bias);
    let [upper, lower] = LN_2.map(|part| simd.splat_f32s(-part));
    let remainder = simd.mul_add_e_f32s(integer, lower, simd.mul_add_e_f32s(integer, upper, x));
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(1f32.to_bits())));
    simd.mul_f32s(polynomial(simd, &EXP_COEFFICIENTS, remainder), power)
}

/// Returns the logarithm of the sum of `e^x` over `values`.
#[must_use]
pub fn log_sum_exp(values: &[f32]) -> f32 {
    struct SumExp<'a> {
        values: &'a [f32],
        max: f32,
    }
    impl WithSimd for SumExp<'_> {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let (vectors, tail) = S::as_simd_f32s(self.values);
            let max = simd.splat_f32s(self.max);
            let mut sum = simd.splat_f32s(0.0);
            for &vector in vectors {
                sum = simd.add_f32s(sum, exp(simd, simd.sub_f32s(vector, max)));
            }
            let tail: f32 = tail.iter().map(|value| (value - self.max).exp()).sum();
            simd.reduce_sum_f32s(sum) + tail
        }
    }
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Arch::new().dispatch(SumExp { values, max }).ln() + max
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;

    /// Computes GELU and the exponential of every value.
    struct GeluAndExp<'a>(&'a [f32]);

    impl WithSimd for GeluAndExp<'_> {
        type Output = Vec<[f32; 2]>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let gelu_and_exp = |&x: &f32| {
                let x = simd.splat_f32s(x);
                [gelu(simd, x), exp(simd, x)].map(|value| simd.reduce_max_f32s(value))
            };
            self.0.iter().map(gelu_and_exp).collect()
        }
    }

    /// Computes the error function in double precision: by its Taylor series, or by its continued
    /// fraction where the terms of the series would cancel.
    fn erf(x: f64) -> f64 {
        if x.abs() < 3.0 {
            let mut term = x;
            let mut sum = x;
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return sum * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let fraction = (1..200).rev().fold(x.abs(), |below, n| x.abs() + f64::from(n) / 2.0 / below);
        x.signum() * (1.0 - (-x * x).exp() / fraction / std::f64::consts::PI.sqrt())
    }

    #[test]
    fn gelu_and_exp_match_double_precision() {
        let numbers: Vec<f32> = (-8_700..=1_200).map(|hundredth| hundredth as f32 / 100.0).collect();
        for actual in
            [Arch::new().dispatch(GeluAndExp(&numbers)), GeluAndExp(&numbers).with_simd(Scalar::new())]
        {
            for (&x, [gelu, exp]) in numbers.iter().zip(actual) {
                let exact = f64::from(x);
                let expected = exact / 2.0 * (1.0 + erf(exact / 2f64.sqrt()));
                let bound = if exact.abs() < 5.6 { 4e-7 * exact.abs().max(0.1) } else { 1e-7 };
                assert!(
                    (f64::from(gelu) - expected).abs() < bound,
                    "gelu({x}) = {gelu}, expected {expected}"
                );
                assert!((f64::from(exp) / exact.exp() - 1.0).abs() < 3e-7, "exp({x}) = {exp}");
            }
        }
    }

    #[test]
    fn nan_is_preserved_and_infinity_is_clamped() {
        let actual = Arch::new().dispatch(GeluAndExp(&[f32::NAN, f32::NEG_INFINITY, f32::INFINITY]));
        let [[gelu_nan, exp_nan], [gelu_low, exp_low], [gelu_high, exp_high]] = actual[..] else { panic!() };
        assert!(gelu_nan.is_nan() && exp_nan.is_nan());
        assert!(gelu_low == 0.0 && (0.0..1e-37).contains(&exp_low));
        assert!(gelu_high == f32::INFINITY && exp_high > 1e38);
    }

    #[test]
    fn log_sum_exp_is_precise_for_large_values() {
        let numbers: Vec<f32> = (0..191).map(|index| 300.0 - index as f32 / 7.0).collect();
        let sum: f64 = numbers.iter().map(|&number| f64::from(number - 300.0).exp()).sum();
        assert!((f64::from(log_sum_exp(&numbers)) - 300.0 - sum.ln()).abs() < 1e-4);
        assert!(log_sum_exp(&[0.0, f32::NAN, 1.0]).is_nan());
    }
}
