//! Loads weights from a checkpoint into the layouts of the kernels.

use cpu_kernels::{CpuLayerNorm, CpuLinear, NumberFormat};

use crate::{
    error::LoadError,
    layers::{
        linear::Linear,
        native_linear::{copied, packed},
        weight_path::WeightPath,
    },
};

pub(super) use crate::layers::tensor_slice::size;

/// Loads `weight` `[out, in]` and `bias` `[out]` below `path`, in `format`.
pub(super) fn load_linear(
    path: &WeightPath<'_>,
    inputs: i64,
    outputs: i64,
    format: NumberFormat,
) -> Result<CpuLinear, LoadError> {
    Ok(packed(&Linear::load(path, inputs, outputs)?, format)?)
}

/// Loads `weight` and `bias`, both `[size]`, below `path`.
pub(super) fn load_norm(path: &WeightPath<'_>, size: i64, eps: f64) -> Result<CpuLayerNorm, LoadError> {
    let part = |name| -> Result<Vec<f32>, LoadError> { Ok(copied(&path.tensor(name, &[size])?)?) };
    Ok(CpuLayerNorm::new(part("weight")?, part("bias")?, eps as f32))
}
