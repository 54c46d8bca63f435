//! Loads weights from a checkpoint into the layouts of the kernels.

use cpu_kernels::{CpuLayerNorm, CpuLinear};
use tch::{Kind, TchError, Tensor};

use crate::{
    error::LoadError,
    layers::{linear, weight_path::WeightPath},
};

/// Packs the weights of `layer`.
pub(super) fn linear(layer: &linear::Linear) -> Result<CpuLinear, LoadError> {
    let inputs = layer.weight.size2()?.1;
    let (weight, bias) = (copied(&layer.weight)?, copied(&layer.bias)?);
    let linear = CpuLinear::new(&weight, &bias, usize::try_from(inputs).unwrap_or(0));
    linear.ok_or_else(|| {
        TchError::Shape(format!("invalid weights of a linear layer: {:?}", layer.weight)).into()
    })
}

/// Loads `weight` `[out, in]` and `bias` `[out]` below `path`.
pub(super) fn load_linear(path: &WeightPath<'_>, inputs: i64, outputs: i64) -> Result<CpuLinear, LoadError> {
    linear(&linear::Linear::load(path, inputs, outputs)?)
}

/// Loads several layers below `path` with the same input as one layer. Outputs are in the order of
/// `names`.
pub(super) fn load_fused<const PARTS: usize>(
    path: &WeightPath<'_>,
    names: [&str; PARTS],
    inputs: i64,
    outputs: i64,
) -> Result<CpuLinear, LoadError> {
    let parts = names.into_iter().map(|name| linear::Linear::load(&path.at(name), inputs, outputs));
    linear(&linear::Linear::fused(&parts.collect::<Result<Vec<_>, _>>()?)?)
}

/// Loads `weight` and `bias`, both `[size]`, below `path`.
pub(super) fn load_norm(path: &WeightPath<'_>, size: i64, eps: f64) -> Result<CpuLayerNorm, LoadError> {
    let part = |name| -> Result<Vec<f32>, LoadError> { Ok(copied(&path.tensor(name, &[size])?)?) };
    Ok(CpuLayerNorm::new(part("weight")?, part("bias")?, eps as f32))
}

/// Returns the numbers of a tensor.
pub(super) fn copied(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    Vec::try_from(tensor.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)
}

/// Converts a size of the configuration, which is already checked.
pub(super) fn size(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
