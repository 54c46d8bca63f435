//! Loads weights from a checkpoint into the layouts of the kernels.

use cpu_kernels::{CpuLayerNorm, CpuLinear, WeightFormat};

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
pub(super) fn weight_format(path: &WeightPath<'_>) -> WeightFormat {
    path.kernels().map(|kernels| kernels.weight_format).unwrap_or_default()
}

/// Loads `weight` `[out, in]` and `bias` `[out]` below `path`.
pub(super) fn load_linear(path: &WeightPath<'_>, inputs: i64, outputs: i64) -> Result<CpuLinear, LoadError> {
    Ok(packed(&Linear::load(path, inputs, outputs)?, weight_format(path))?)
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
    Ok(packed(&Linear::fused(&parts.collect::<Result<Vec<_>, _>>()?)?, weight_format(path))?)
}

/// Loads `weight` and `bias`, both `[size]`, below `path`.
pub(super) fn load_norm(path: &WeightPath<'_>, size: i64, eps: f64) -> Result<CpuLayerNorm, LoadError> {
    let part = |name| -> Result<Vec<f32>, LoadError> { Ok(copied(&path.tensor(name, &[size])?)?) };
    Ok(CpuLayerNorm::new(part("weight")?, part("bias")?, eps as f32))
}
