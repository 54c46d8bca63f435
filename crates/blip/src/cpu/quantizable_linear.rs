//! A linear layer in the number format that is wanted.

use cpu_kernels::{Epilogue, CpuInt8Linear, Int8Scratch, CpuLinear};
use tch::TchError;

use crate::{
    cpu::load::{copied, linear, size},
    dtype::VisionDtype,
    error::LoadError,
    layers::{linear, weight_path::WeightPath},
};

/// `x W^T + b`.
#[derive(Debug)]
pub(super) enum QuantizableLinear {
    F32(CpuLinear),
    /// Inputs and weights are rounded to 8 bits on the way.
    Int8(CpuInt8Linear),
}

impl QuantizableLinear {
    /// Whether this processor has the instructions for it.
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
        let layer = linear::Linear::load(path, inputs, outputs)?;
        Ok(match dtype {
            VisionDtype::AsModel => Self::F32(linear(&layer)?),
            VisionDtype::Int8 => {
                let rounded = CpuInt8Linear::new(&copied(&layer.weight)?, &copied(&layer.bias)?, size(inputs));
                let impossible = || TchError::Shape(format!("no weights {:?} in int8", layer.weight));
                Self::Int8(rounded.ok_or_else(impossible)?)
            }
        })
    }

    /// Numbers of a row that goes out.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::F32(linear) => linear.outputs(),
            Self::Int8(linear) => linear.outputs(),
        }
    }

    /// `input` `[rows, in]` to `out` `[rows, out]`; `scratch` is for the rounded input.
    pub(super) fn forward(&self, input: &[f32], out: &mut [f32], after: Epilogue, scratch: &mut Int8Scratch) {
        match self {
            Self::F32(linear) => linear.forward(input, out, after),
            Self::Int8(linear) => linear.forward(input, out, after, scratch),
        }
    }
}
