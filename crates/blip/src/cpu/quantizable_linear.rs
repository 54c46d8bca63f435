//! A linear layer in f32 or int8.

use cpu_kernels::{CpuInt8Linear, CpuLinear, Epilogue, Int8Scratch, WeightFormat};
use tch::TchError;

use crate::{
    cpu::load::size,
    dtype::VisionDtype,
    error::LoadError,
    layers::{
        linear::Linear,
        native_linear::{copied, packed},
        weight_path::WeightPath,
    },
};

/// Computes `x W^T + b`.
#[derive(Debug)]
pub(super) enum QuantizableLinear {
    F32(CpuLinear),
    /// Inputs and weights are rounded to 8 bits.
    Int8(CpuInt8Linear),
}

impl QuantizableLinear {
    /// Returns whether the processor has the instructions for products in `dtype`.
    pub(super) fn is_supported(dtype: VisionDtype) -> bool {
        match dtype {
            VisionDtype::AsModel => true,
            VisionDtype::Int8 => CpuInt8Linear::is_supported(),
        }
    }

    /// Loads `weight` `[out, in]` and `bias` `[out]` below `path`.
    pub(super) fn load(
        path: &WeightPath<'_>,
        inputs: i64,
        outputs: i64,
        dtype: VisionDtype,
    ) -> Result<Self, LoadError> {
        let layer = Linear::load(path, inputs, outputs)?;
        Ok(match dtype {
            VisionDtype::AsModel => Self::F32(packed(&layer, WeightFormat::F32)?),
            VisionDtype::Int8 => {
                let rounded =
                    CpuInt8Linear::new(&copied(&layer.weight)?, &copied(&layer.bias)?, size(inputs));
                let impossible =
                    || TchError::Shape(format!("invalid weights of an int8 layer: {:?}", layer.weight));
                Self::Int8(rounded.ok_or_else(impossible)?)
            }
        })
    }

    /// Returns the width of an output row.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::F32(linear) => linear.outputs(),
            Self::Int8(linear) => linear.outputs(),
        }
    }

    /// Computes `out` `[rows, out]` from `input` `[rows, in]`. `scratch` holds the rounded input.
    pub(super) fn forward(&self, input: &[f32], out: &mut [f32], after: Epilogue, scratch: &mut Int8Scratch) {
        match self {
            Self::F32(linear) => linear.forward(input, out, after),
            Self::Int8(linear) => linear.forward(input, out, after, scratch),
        }
    }
}
