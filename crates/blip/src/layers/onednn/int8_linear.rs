//! A linear layer in 8-bit integers with LibTorch. A CPU with int8 instructions does four times as
//! many multiplications a cycle as in f32.
//!
//! The weight has a scale for each output. The input has a scale for each row, computed at run
//! time. Therefore the layer needs no calibration, and the result of a row does not depend on other
//! rows.

use tch::{Kind, TchError, Tensor};

use crate::layers::{linear::Linear, onednn::interface::PackedWeight};

/// Largest rounded weight.
const MAX_WEIGHT: f64 = 127.0;

/// Smallest scale. A row of zeros would otherwise have a scale of 0 and divide by zero.
const MIN_SCALE: f64 = f32::MIN_POSITIVE as f64;

/// `x W^T + b`, with `x` and `W` rounded to 8 bits.
#[derive(Debug)]
pub(crate) struct Int8Linear {
    weight: PackedWeight,
    /// `[out]` in f32.
    bias: Tensor,
    input: InputRange,
}

/// The integers that inputs are rounded to. The kernels need unsigned ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InputRange {
    /// The integer that represents 0.
    zero: u8,
    /// The largest distance from it.
    pub(crate) largest: u8,
}

impl InputRange {
    /// For processors that add products in 32 bits.
    const FULL: Self = Self { zero: 128, largest: 127 };

    /// For processors that add two products in 16 bits: `2 * 127 * 127` is the most that fits.
    const HALF: Self = Self { zero: 64, largest: 63 };

    /// Returns the range for this processor.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        let sums_in_32_bits = is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni");
        #[cfg(not(target_arch = "x86_64"))]
        let sums_in_32_bits = true;
        if sums_in_32_bits { Self::FULL } else { Self::HALF }
    }
}

impl Int8Linear {
    /// Rounds the weight of a layer in f32 on the CPU.
    pub(crate) fn new(linear: &Linear) -> Result<Self, TchError> {
        let scales = scales(&linear.weight, MAX_WEIGHT)?;
        let weight = linear.weight.f_div(&scales)?.f_round_()?.f_to_kind(Kind::Int8)?;
        let input = InputRange::detect();
        Ok(Self {
            weight: PackedWeight::new(&weight, &scales.f_squeeze_dim(1)?, i32::from(input.zero))?,
            bias: linear.bias.shallow_clone(),
            input,
        })
    }

    /// Computes the layer, `[.., in]` to `[.., out]`, both in f32.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut shape = input.size();
        let width = shape.pop().unwrap_or(0);
        let rows = input.f_reshape([-1, width])?;
        let InputRange { zero, largest } = self.input;
        let scales = scales(&rows, f64::from(largest))?;
        // One operator rounds, adds the zero point and converts to u8.
        let rounded = rows.f_div(&scales)?.f_quantize_per_tensor(1.0, i64::from(zero), Kind::QUInt8)?;
        let product = self.weight.multiply(&rounded.f_int_repr()?)?;
        shape.push(product.size2()?.1);
        self.bias.f_addcmul(&product, &scales)?.f_view(shape.as_slice())
    }
}

/// Returns the scale of each row of `[rows, columns]`, `[rows, 1]`. It is the value of the integer
/// 1 if the row's largest absolute value becomes `largest`.
fn scales(rows: &Tensor, largest: f64) -> Result<Tensor, TchError> {
    rows.f_abs()?.f_amax(1, true)?.f_div_scalar_(largest)?.f_clamp_min_(MIN_SCALE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Device;

    use super::*;
    use crate::tests::random_layers;

    /// Returns the largest possible error of a product: half a step of either factor for each of
    /// the row's terms.
    fn bound(linear: &Linear, input: &Tensor) -> Tensor {
        let half_steps = |rows: &Tensor, largest| scales(rows, largest).unwrap() * 0.5;
        let (input_step, weight_step) = (
            half_steps(input, f64::from(InputRange::detect().largest)),
            half_steps(&linear.weight, MAX_WEIGHT).transpose(0, 1),
        );
        let columns = input.size()[1] as f64;
        let sum_of = |rows: &Tensor| rows.abs().sum_dim_intlist(1, true, Kind::Float);
        sum_of(input) * &weight_step
            + &input_step * sum_of(&linear.weight).transpose(0, 1)
            + &input_step * &weight_step * columns
            // Rounding error of the sum in f32.
            + 1e-4
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn product_error_is_within_bound_of_8_bit_rounding(rows in 1i64..70, inputs in 1i64..200, outputs in 1i64..200) {
            let (linear, input) = (random_layers::linear(inputs, outputs), random_layers::tensor(&[rows, inputs]));
            let difference = (Int8Linear::new(&linear).unwrap().forward(&input).unwrap() - linear.forward(&input).unwrap()).abs();
            let excess = (difference - bound(&linear, &input)).max().double_value(&[]);
            prop_assert!(excess <= 0.0, "{excess}");
        }
    }

    #[test]
    fn half_range_sums_of_two_products_fit_in_16_bits() {
        let InputRange { zero, largest } = InputRange::HALF;
        assert!(zero >= largest);
        assert!(2.0 * f64::from(zero + largest) * MAX_WEIGHT <= f64::from(i16::MAX));
    }

    #[test]
    fn row_result_is_independent_of_batch_composition() {
        let layer = Int8Linear::new(&random_layers::linear(96, 40)).unwrap();
        // Rows of very different magnitudes.
        let rows = random_layers::tensor(&[33, 96]) * random_layers::tensor(&[33, 1]).exp();
        let together = layer.forward(&rows).unwrap();
        for row in 0..33 {
            let alone = layer.forward(&rows.narrow(0, row, 1)).unwrap();
            assert!(alone.equal(&together.narrow(0, row, 1)), "row {row}");
        }
    }

    #[test]
    fn zero_rows_return_bias_with_leading_dimensions() {
        let float = random_layers::linear(8, 5);
        let layer = Int8Linear::new(&float).unwrap();
        let output = layer.forward(&Tensor::zeros([2, 3, 8], (Kind::Float, Device::Cpu))).unwrap();
        assert_eq!(output.size(), [2, 3, 5]);
        assert!(output.equal(&float.bias.expand([2, 3, 5], false)));
    }

    #[test]
    fn non_finite_input_stays_non_finite_in_its_row() {
        let layer = Int8Linear::new(&random_layers::linear(8, 5)).unwrap();
        for bad in [f64::NAN, f64::INFINITY] {
            let input = random_layers::tensor(&[2, 8]);
            let _ = input.get(1).get(3).fill_(bad);
            let output = layer.forward(&input).unwrap();
            assert!(bool::try_from(output.get(0).isfinite().all()).unwrap());
            assert!(!bool::try_from(output.get(1).isfinite().any()).unwrap(), "{bad}");
        }
    }
}
