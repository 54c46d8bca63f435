//! Resampling filters of the reference, as continuous functions.

use std::f64::consts::PI;

/// A resampling filter. For downscaling it is widened, so that it averages (antialiasing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The nearest pixel, without averaging.
    Nearest,
    /// Sinc, windowed by the middle of a sinc of three times the width.
    Lanczos,
    /// Triangle filter.
    Bilinear,
    /// Keys' cubic convolution with a = -0.5.
    Bicubic,
    /// Equal weights.
    Box,
    /// Sinc, windowed by a raised cosine.
    Hamming,
}

impl Filter {
    /// Returns the filter with this number in Pillow (`resample` in `preprocessor_config.json`).
    #[must_use]
    pub fn from_pillow(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Nearest),
            1 => Some(Self::Lanczos),
            2 => Some(Self::Bilinear),
            3 => Some(Self::Bicubic),
            4 => Some(Self::Box),
            5 => Some(Self::Hamming),
            _ => None,
        }
    }

    /// Returns the distance from the centre at which the filter ends, in pixels of an unscaled
    /// image.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// Returns the filter's weight at distance `x`. The order of operations is Pillow's, because it
    /// decides the last bit.
    pub(super) fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let distance = x.abs();
        match self {
            Self::Nearest | Self::Box if x > -0.5 && x <= 0.5 => 1.0,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Bilinear if distance < 1.0 => 1.0 - distance,
            Self::Bicubic if distance < 1.0 => ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0,
            Self::Bicubic if distance < 2.0 => (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A,
            Self::Hamming if distance == 0.0 => 1.0,
            Self::Hamming if distance < 1.0 => {
                let angle = distance * PI;
                angle.sin() / angle * (0.54 + 0.46 * angle.cos())
            }
            _ => 0.0,
        }
    }
}

/// Returns `sin(pi x) / (pi x)`.
fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let angle = x * PI;
    angle.sin() / angle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_interpolate_and_sum_to_one_everywhere() {
        for filter in [Filter::Bicubic, Filter::Bilinear] {
            assert_eq!([-2.0, -1.0, 0.0, 1.0, 2.0].map(|x| filter.weight(x)), [0.0, 0.0, 1.0, 0.0, 0.0]);
            for step in 0..100 {
                let x = f64::from(step) / 100.0;
                let sum: f64 = (-2..=2).map(|tap| filter.weight(f64::from(tap) + x)).sum();
                assert!((sum - 1.0).abs() < 1e-12, "{filter:?} at {x}: {sum}");
            }
        }
    }
}
