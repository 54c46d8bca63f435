//! How a product in f32 reads its weights.

use bytemuck::cast;
use pulp::Simd;

/// Reads a line of a panel: the weights of one input for `VECTORS` vectors of columns.
pub(crate) trait ReadLine<S: Simd, const VECTORS: usize>: Copy {
    /// A line in memory.
    type Line: Copy;

    /// Returns the weights of a line.
    fn read(self, simd: S, line: Self::Line) -> [S::f32s; VECTORS];
}

/// Lines of f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32Lines;

/// Lines of bf16. Each 32-bit number has the weights of a column of the first vector (lower half)
/// and of the second one (upper half).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16Lines;

impl<S: Simd, const VECTORS: usize> ReadLine<S, VECTORS> for F32Lines {
    type Line = [S::f32s; VECTORS];

    #[inline(always)]
    fn read(self, _: S, line: Self::Line) -> [S::f32s; VECTORS] {
        line
    }
}

impl<S: Simd> ReadLine<S, 2> for Bf16Lines {
    type Line = S::u32s;

    #[inline(always)]
    fn read(self, simd: S, line: S::u32s) -> [S::f32s; 2] {
        let lower = simd.wrapping_dyn_shl_u32s(line, simd.splat_u32s(16));
        let upper = simd.and_u32s(line, simd.splat_u32s(0xFFFF_0000));
        [simd.transmute_f32s_u32s(lower), simd.transmute_f32s_u32s(upper)]
    }
}

/// Returns two weights as bf16 in one number: `lower` and `upper`.
pub(crate) fn bf16_pair(lower: f32, upper: f32) -> u32 {
    u32::from(bf16(upper)) << 16 | u32::from(bf16(lower))
}

/// Rounds a number to bf16, the nearest one, to even between two.
pub(crate) fn bf16(number: f32) -> u16 {
    let bits: u32 = cast(number);
    if number.is_nan() {
        // Rounding could turn it into an infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(bits: u16) -> f32 {
        cast(u32::from(bits) << 16)
    }

    proptest! {
        #[test]
        fn rounded_number_is_the_nearest(number in any::<f32>().prop_filter("finite", |x| x.is_finite())) {
            let rounded = bf16(number);
            let error = (f64::from(value(rounded)) - f64::from(number)).abs();
            for other in [rounded.wrapping_sub(1), rounded.wrapping_add(1)] {
                let other = f64::from(value(other));
                prop_assert!(!other.is_finite() || error <= (other - f64::from(number)).abs());
            }
        }
    }

    #[test]
    fn ties_round_to_even_and_special_numbers_stay() {
        for (number, rounded) in [
            (0x3F80_8000, 0x3F80),
            (0x3F81_8000, 0x3F82),
            (0x3F80_8001, 0x3F81),
            (0x8000_0000, 0x8000),
            (0x7F80_0000, 0x7F80),
            (0x7F7F_FFFF, 0x7F80),
        ] {
            assert_eq!(bf16(cast::<u32, f32>(number)), rounded, "{number:x}");
        }
        assert!(value(bf16(f32::NAN)).is_nan() && value(bf16(cast::<u32, f32>(0x7F80_0001))).is_nan());
    }
}
