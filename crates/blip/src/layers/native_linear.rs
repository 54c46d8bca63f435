//! A linear layer in f32 on the CPU, with the native kernels.

use std::sync::Arc;

use cpu_kernels::{CpuLayerNorm, CpuLinear, Epilogue, NumberFormat};
use tch::{Kind, TchError, Tensor};

use crate::{
    layers::{
        linear::Linear,
        tensor_slice::{as_slice, filled},
    },
    parallel::ParallelKernels,
};

/// `x W^T + b`, computed by the threads of `kernels`.
#[derive(Debug)]
pub(crate) struct NativeLinear {
    linear: Arc<CpuLinear>,
    kernels: ParallelKernels,
}

impl NativeLinear {
    /// Packs the weights of a layer.
    pub(crate) fn new(linear: &Linear, kernels: &ParallelKernels) -> Result<Self, TchError> {
        Ok(Self { linear: Arc::new(packed(linear, kernels.number_format)?), kernels: kernels.clone() })
    }

    /// Returns the packed weights.
    pub(crate) fn weights(&self) -> &Arc<CpuLinear> {
        &self.linear
    }

    /// Computes the layer and `epilogue`, `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor, epilogue: Epilogue) -> Result<Tensor, TchError> {
        let shape = self.output_shape(input)?;
        let input = input.f_contiguous()?;
        filled(&shape, |output| {
            self.kernels.linear(&self.linear, as_slice(&input)?, output, epilogue);
            Ok(())
        })
    }

    /// Returns the norm of the layer's result plus `residual`, in the shape of `residual`.
    pub(crate) fn forward_residual(
        &self,
        input: &Tensor,
        residual: &Tensor,
        norm: &CpuLayerNorm,
    ) -> Result<Tensor, TchError> {
        check_residual(residual, &self.output_shape(input)?)?;
        let (input, residual) = (input.f_contiguous()?, residual.f_contiguous()?);
        filled(&residual.size(), |output| {
            output.copy_from_slice(as_slice(&residual)?);
            self.kernels.linear_residual(&self.linear, norm, as_slice(&input)?, output);
            Ok(())
        })
    }

    /// Computes this layer, the GELU of its result and the layer `down`. Returns the norm of the
    /// result plus `states`, in the shape of `states`.
    pub(crate) fn feed_forward(
        &self,
        down: &Self,
        states: &Tensor,
        norm: &CpuLayerNorm,
    ) -> Result<Tensor, TchError> {
        let mut shape = self.output_shape(states)?;
        shape.iter_mut().rev().take(1).for_each(|last| *last = down.linear.outputs() as i64);
        check_residual(states, &shape)?;
        let states = states.f_contiguous()?;
        filled(&shape, |output| {
            output.copy_from_slice(as_slice(&states)?);
            self.kernels.feed_forward(&self.linear, &down.linear, norm, output);
            Ok(())
        })
    }

    /// Returns the shape of the result.
    fn output_shape(&self, input: &Tensor) -> Result<Vec<i64>, TchError> {
        let (mut shape, inputs) = (input.size(), self.linear.inputs());
        match shape.last_mut() {
            Some(last) if *last == inputs as i64 => *last = self.linear.outputs() as i64,
            _ => return Err(TchError::Shape(format!("input is {input:?}, expected rows of {inputs}"))),
        }
        Ok(shape)
    }
}

/// Checks that a residual has the `shape` of the result to which it is added.
fn check_residual(residual: &Tensor, shape: &[i64]) -> Result<(), TchError> {
    match residual.size() == shape {
        true => Ok(()),
        false => Err(TchError::Shape(format!("residual is {residual:?}, expected {shape:?}"))),
    }
}

/// Packs the weights of `layer` for the native kernels, which keep them in `format`.
pub(crate) fn packed(layer: &Linear, format: NumberFormat) -> Result<CpuLinear, TchError> {
    let inputs = layer.weight.size2()?.1;
    let (weight, bias) = (copied(&layer.weight)?, copied(&layer.bias)?);
    let linear = CpuLinear::with_format(&weight, &bias, usize::try_from(inputs).unwrap_or(0), format);
    linear.ok_or_else(|| TchError::Shape(format!("invalid weights of a linear layer: {:?}", layer.weight)))
}

/// Returns the numbers of a tensor.
pub(crate) fn copied(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    Vec::try_from(tensor.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::random_layers;

    fn difference(found: &Tensor, expected: &Tensor) -> f64 {
        assert_eq!(found.size(), expected.size());
        (found - expected).abs().max().double_value(&[])
    }

    #[test]
    fn native_layer_equals_plain_layer_for_any_view() {
        for threads in [1, 2] {
            let kernels = ParallelKernels::new(threads, NumberFormat::F32).unwrap();
            let linear = random_layers::linear(8, 700);
            let native = NativeLinear::new(&linear, &kernels).unwrap();
            let wide = random_layers::tensor(&[2, 30, 4, 8]);
            for input in [wide.shallow_clone(), wide.select(1, 1), wide.transpose(0, 2), wide.narrow(2, 1, 2)]
            {
                let plain = linear.forward(&input).unwrap();
                assert!(difference(&native.forward(&input, Epilogue::Store).unwrap(), &plain) < 1e-4);
                let gelu = native.forward(&input, Epilogue::Gelu).unwrap();
                assert!(difference(&gelu, &plain.gelu("none")) < 1e-4);
            }
        }
    }

    #[test]
    fn empty_input_has_an_empty_output_and_other_widths_are_errors() {
        let kernels = ParallelKernels::new(2, NumberFormat::F32).unwrap();
        let native = NativeLinear::new(&random_layers::linear(8, 5), &kernels).unwrap();
        let output = native.forward(&random_layers::tensor(&[0, 8]), Epilogue::Store).unwrap();
        assert_eq!(output.size(), [0, 5]);
        assert!(native.forward(&random_layers::tensor(&[2, 4, 4]), Epilogue::Store).is_err());
    }
}
