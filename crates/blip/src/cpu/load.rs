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

/// Returns the number format in which the layers of texts below `path` keep their weights.
pub(super) fn number_format(path: &WeightPath<'_>) -> NumberFormat {
    path.kernels().map(|kernels| kernels.number_format).unwrap_or_default()
}

/// Loads `weight` `[out, in]` and `bias` `[out]` below `path`.
pub(super) fn load_linear(path: &WeightPath<'_>, inputs: i64, outputs: i64) -> Result<CpuLinear, LoadError> {
    load_linear_in(path, inputs, outputs, number_format(path))
}

/// Loads a layer like [`load_linear`], in `format`.
pub(super) fn load_linear_in(
    path: &WeightPath<'_>,
    inputs: i64,
    outputs: i64,
    format: NumberFormat,
) -> Result<CpuLinear, LoadError> {
    Ok(packed(&Linear::load(path, inputs, outputs)?, format)?)
}

/// Loads several layers below `path` with the same input as one layer. Outputs are in the order of
/// `names`.
pub(super) fn load_fused<const PARTS: usize>(
    path: &WeightPath<'_>,
    names: [&str; PARTS],
    inputs: i64,
    outputs: i64,
) -> Result<CpuLinear, LoadError> {
    let parts = names.into_iter().map(|name| Linear::load(&path.at(name), inputs, outputs));
    Ok(packed(&Linear::fused(&parts.collect::<Result<Vec<_>, _>>()?)?, number_format(path))?)
}

/// Loads `weight` and `bias`, both `[size]`, below `path`.
pub(super) fn load_norm(path: &WeightPath<'_>, size: i64, eps: f64) -> Result<CpuLayerNorm, LoadError> {
    let part = |name| -> Result<Vec<f32>, LoadError> { Ok(copied(&path.tensor(name, &[size])?)?) };
    Ok(CpuLayerNorm::new(part("weight")?, part("bias")?, eps as f32))
}
