//! Functions of single numbers, a vector at a time.

use pulp::{Arch, Simd, WithSimd};

/// `erf(x) = x P(x^2) / Q(x^2)` up to here, and 1 to the last bit beyond. The first coefficient is that of the series around 0; the
/// others are by least squares on Chebyshev nodes, reweighted until the largest error was least: 1.9e-8, and 3.5e-7 with the
/// rounding of f32.
const ERF_END: f32 = 3.925;
const ERF_ABOVE: [f32; 6] = [
    std::f32::consts::FRAC_2_SQRT_PI,
    0.190_465_91,
    0.052_752_38,
    0.003_766_321_8,
    0.000_284_545_13,
    2.045_356e-6,
];
const ERF_BELOW: [f32; 6] = [1.0, 0.502_129_14, 0.114_129_305, 0.014_971_977, 0.001_161_987_9, 3.802_431e-5];

/// `1 / n!`.
const EXP: [f32; 8] = [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5_040.0];

/// Below this `e^x` is no normal number.
const EXP_START: f32 = -87.0;
const EXP_END: f32 = 88.0;

/// Adding it rounds to a whole number, which then stands in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// ln 2, its upper bits, of which small multiples are exact, and the rest.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

#[inline(always)]
fn polynomial<S: Simd>(simd: S, coefficients: &[f32], x: S::f32s) -> S::f32s {
    let mut value = simd.splat_f32s(0.0);
    for &coefficient in coefficients.iter().rev() {
        value = simd.mul_add_e_f32s(value, x, simd.splat_f32s(coefficient));
    }
    value
}

/// `x (1 + erf(x / sqrt 2)) / 2`: the exact GELU.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let scaled = simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
    let square = simd.mul_f32s(scaled, scaled);
    let above = simd.mul_f32s(scaled, polynomial(simd, &ERF_ABOVE, square));
    let erf = simd.div_f32s(above, polynomial(simd, &ERF_BELOW, square));
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    let near_0 = simd.less_than_f32s(simd.abs_f32s(scaled), simd.splat_f32s(ERF_END));
    // What is no number stays none: of two operands the second is returned then.
    let far_off = simd.max_f32s(simd.splat_f32s(0.0), x);
    simd.select_f32s(near_0, simd.mul_add_e_f32s(half, erf, half), far_off)
}

/// `e^x`, for what is below -87 a number next to 0.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // As above, what is no number stays none.
    let x = simd.max_f32s(simd.splat_f32s(EXP_START), simd.min_f32s(simd.splat_f32s(EXP_END), x));
    let rounder = simd.splat_f32s(ROUNDER);
    let rounded = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), rounder);
    let whole = simd.sub_f32s(rounded, rounder);
    let [upper, lower] = LN_2.map(|part| simd.splat_f32s(-part));
    let rest = simd.mul_add_e_f32s(whole, lower, simd.mul_add_e_f32s(whole, upper, x));
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(1f32.to_bits())));
    simd.mul_f32s(polynomial(simd, &EXP, rest), power)
}

/// The logarithm of the sum of `e^x` over `numbers`.
#[must_use]
pub fn log_sum_exp(numbers: &[f32]) -> f32 {
    struct Sum<'a> {
        numbers: &'a [f32],
        most: f32,
    }
    impl WithSimd for Sum<'_> {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let (vectors, end) = S::as_simd_f32s(self.numbers);
            let most = simd.splat_f32s(self.most);
            let mut sum = simd.splat_f32s(0.0);
            for &vector in vectors {
                sum = simd.add_f32s(sum, exp(simd, simd.sub_f32s(vector, most)));
            }
            let end: f32 = end.iter().map(|number| (number - self.most).exp()).sum();
            simd.reduce_sum_f32s(sum) + end
        }
    }
    let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Arch::new().dispatch(Sum { numbers, most }).ln() + most
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;

    /// Both functions of every number of a slice.
    struct Both<'a>(&'a [f32]);

    impl WithSimd for Both<'_> {
        type Output = Vec<[f32; 2]>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let both = |&x: &f32| {
                let x = simd.splat_f32s(x);
                [gelu(simd, x), exp(simd, x)].map(|value| simd.reduce_max_f32s(value))
            };
            self.0.iter().map(both).collect()
        }
    }

    /// The error function in double precision, by its series or, where that would cancel, its continued fraction.
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
    fn they_are_what_double_precision_says_on_every_processor() {
        let numbers: Vec<f32> = (-8_700..=1_200).map(|hundredth| hundredth as f32 / 100.0).collect();
        for found in [Arch::new().dispatch(Both(&numbers)), Both(&numbers).with_simd(Scalar::new())] {
            for (&x, [gelu, exp]) in numbers.iter().zip(found) {
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
    fn what_is_no_number_stays_none_and_what_is_endless_ends() {
        let found = Arch::new().dispatch(Both(&[f32::NAN, f32::NEG_INFINITY, f32::INFINITY]));
        let [[gelu_nan, exp_nan], [gelu_low, exp_low], [gelu_high, exp_high]] = found[..] else { panic!() };
        assert!(gelu_nan.is_nan() && exp_nan.is_nan());
        assert!(gelu_low == 0.0 && (0.0..1e-37).contains(&exp_low));
        assert!(gelu_high == f32::INFINITY && exp_high > 1e38);
    }

    #[test]
    fn the_logarithm_of_a_sum_keeps_its_precision_far_from_0() {
        let numbers: Vec<f32> = (0..191).map(|index| 300.0 - index as f32 / 7.0).collect();
        let sum: f64 = numbers.iter().map(|&number| f64::from(number - 300.0).exp()).sum();
        assert!((f64::from(log_sum_exp(&numbers)) - 300.0 - sum.ln()).abs() < 1e-4);
        assert!(log_sum_exp(&[0.0, f32::NAN, 1.0]).is_nan());
    }
}
