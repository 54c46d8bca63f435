//! Numbers in bf16, as their bits.

use bytemuck::cast;

/// Returns two numbers as bf16 in one number: `lower` and `upper`.
pub(crate) fn bf16_pair(lower: f32, upper: f32) -> u32 {
    u32::from(to_bf16(upper)) << 16 | u32::from(to_bf16(lower))
}

/// Rounds a number to bf16, the nearest one, to even between two.
#[must_use]
pub fn to_bf16(number: f32) -> u16 {
    let bits: u32 = cast(number);
    if number.is_nan() {
        // Rounding could turn it into an infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

/// Returns the value of a number in bf16.
#[must_use]
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rounded_number_is_the_nearest(number in any::<f32>().prop_filter("finite", |x| x.is_finite())) {
            let rounded = to_bf16(number);
            let error = (f64::from(from_bf16(rounded)) - f64::from(number)).abs();
            for other in [rounded.wrapping_sub(1), rounded.wrapping_add(1)] {
                let other = f64::from(from_bf16(other));
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
            assert_eq!(to_bf16(cast::<u32, f32>(number)), rounded, "{number:x}");
        }
        assert!(
            from_bf16(to_bf16(f32::NAN)).is_nan()
                && from_bf16(to_bf16(cast::<u32, f32>(0x7F80_0001))).is_nan()
        );
    }
}
