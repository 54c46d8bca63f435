//! A linear layer in f32 on the CPU, with the native kernels.

use cpu_kernels::{CpuLinear, Epilogue, Heads, NumberFormat};
use tch::{Kind, TchError, Tensor};

use crate::{
    layers::{
        linear::Linear,
        tensor_slice::{as_mut_slice, as_slice, filled},
    },
    parallel::ParallelKernels,
};

/// `x W^T + b`, computed by the threads of `kernels`.
#[derive(Debug)]
pub(crate) struct NativeLinear {
    linear: CpuLinear,
    kernels: ParallelKernels,
}

impl NativeLinear {
    /// Packs the weights of a layer.
    pub(crate) fn new(linear: &Linear, kernels: &ParallelKernels) -> Result<Self, TchError> {
        Ok(Self { linear: packed(linear, kernels.number_format)?, kernels: kernels.clone() })
    }

    /// Computes the keys and values of an image with `features` `[1, tokens, in]`, packed to
    /// `packed`, see [`ParallelKernels::project`].
    pub(crate) fn project(
        &self,
        heads: Heads,
        features: &Tensor,
        packed: &mut Tensor,
    ) -> Result<(), TchError> {
        let features = features.f_contiguous()?;
        self.kernels.project(&self.linear, heads, as_slice(&features)?, as_mut_slice(packed)?);
        Ok(())
    }

    /// Computes the layer and `epilogue`, `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor, epilogue: Epilogue) -> Result<Tensor, TchError> {
        self.with_rows(input, self, |input, output| {
            self.kernels.linear(&self.linear, input, output, epilogue);
        })
    }

    /// Computes this layer, the GELU of its result and the layer `next`, `[.., in]` to `[.., next
    /// out]`.
    pub(crate) fn forward_gelu_then(&self, next: &Self, input: &Tensor) -> Result<Tensor, TchError> {
        self.with_rows(input, next, |input, output| {
            self.kernels.feed_forward(&self.linear, &next.linear, input, output);
        })
    }

    /// Calls `compute` with the rows of `input` and of the result, which are those of `last`.
    fn with_rows(
        &self,
        input: &Tensor,
        last: &Self,
        compute: impl FnOnce(&[f32], &mut [f32]),
    ) -> Result<Tensor, TchError> {
        let mut shape = input.size();
        match shape.last_mut() {
            Some(width) if *width == self.linear.inputs() as i64 => *width = last.linear.outputs() as i64,
            _ => {
                let inputs = self.linear.inputs();
                return Err(TchError::Shape(format!("input is {input:?}, expected rows of {inputs}")));
            }
        }
        let input = input.f_contiguous()?;
        filled(&shape, |output| {
            compute(as_slice(&input)?, output);
            Ok(())
        })
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
