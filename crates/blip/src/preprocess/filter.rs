//! Resampling filters of the reference, as continuous functions.

/// A resampling filter. For downscaling it is widened, so that it averages (antialiasing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Keys' cubic convolution with a = -0.5.
    Bicubic,
    /// Triangle filter.
    Bilinear,
}

impl Filter {
    /// Returns the filter with this number in Pillow (`resample` in `preprocessor_config.json`).
    #[must_use]
    pub fn from_pillow(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::Bilinear),
            3 => Some(Self::Bicubic),
            _ => None,
        }
    }

    /// Returns the distance from the centre at which the filter ends, in pixels of an unscaled
    /// image.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    /// Returns the filter's weight at distance `x`. The order of operations is Pillow's, because it
    /// decides the last bit.
    pub(super) fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic | Self::Bilinear => 0.0,
        }
    }
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
