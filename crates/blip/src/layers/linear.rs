//! A linear layer in the model's number format.

use cuda::CudaStreams;
use tch::{TchError, Tensor};

use crate::{error::LoadError, layers::weight_path::WeightPath};

/// `x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Tensor,
    /// `[out]`.
    pub(crate) bias: Tensor,
}

impl Linear {
    /// Loads `weight` `[out, in]` and `bias` `[out]` below `path`.
    pub(crate) fn load(path: &WeightPath<'_>, inputs: i64, outputs: i64) -> Result<Self, LoadError> {
        Ok(Self {
            weight: path.tensor("weight", &[outputs, inputs])?,
            bias: path.tensor("bias", &[outputs])?,
        })
    }

    /// Loads a convolution with windows that do not overlap, as a product of patches.
    ///
    /// The files have `weight` `[out, 3, side, side]` and `bias` `[out]` below `path`. A patch has
    /// `3 * side * side` values.
    pub(crate) fn load_patches(path: &WeightPath<'_>, side: i64, outputs: i64) -> Result<Self, LoadError> {
        let weight = path.tensor("weight", &[outputs, 3, side, side])?;
        Ok(Self {
            weight: weight.f_reshape([outputs, 3 * side * side])?,
            bias: path.tensor("bias", &[outputs])?,
        })
    }

    /// Joins layers with the same input into one product. Outputs are side by side in the order of
    /// `layers`.
    pub(crate) fn fused(layers: &[&Self]) -> Result<Self, TchError> {
        let weights: Vec<&Tensor> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Vec<&Tensor> = layers.iter().map(|layer| &layer.bias).collect();
        Ok(Self { weight: Tensor::f_cat(&weights, 0)?, bias: Tensor::f_cat(&biases, 0)? })
    }

    /// Returns the layer of `count` outputs from `first` on. It shares the memory.
    pub(crate) fn outputs(&self, first: i64, count: i64) -> Result<Self, TchError> {
        let part = |tensor: &Tensor| tensor.f_narrow(0, first, count);
        Ok(Self { weight: part(&self.weight)?, bias: part(&self.bias)? })
    }

    /// Computes the layer, `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_linear(&self.weight, Some(&self.bias))
    }

    /// Computes the layer and the tanh form of GELU of its result in one operator of CUDA, `[..,
    /// in]` to `[.., out]`.
    pub(crate) fn forward_cuda_gelu(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let (outputs, inputs) = self.weight.size2()?;
        let mut size = input.size();
        if let Some(last) = size.last_mut() {
            *last = outputs;
        }
        let rows = input.f_reshape([-1, inputs])?;
        CudaStreams::open()?.linear_gelu(&rows, &self.weight, &self.bias)?.f_view(size.as_slice())
    }
}
