//! Linear layers in the layout that suits their device, size and number format, and the
//! feed-forward block.

use tch::{TchError, Tensor};

use crate::{
    error::LoadError,
    layers::{int8_linear::Int8Linear, linear::Linear, packed_linear::PackedLinear, weight_path::WeightPath},
};

/// A linear layer as its device, size and number format want it.
#[derive(Debug)]
pub(crate) enum Dense {
    /// In the model's own format.
    Plain(Linear),
    /// In f32, laid out for the CPU's kernels.
    Packed(PackedLinear),
    /// In 8-bit integers.
    Int8(Int8Linear),
}

impl Dense {
    /// A layer in the model's own format, packed where it can be.
    pub(crate) fn new(linear: Linear) -> Result<Self, TchError> {
        Ok(match PackedLinear::suits(&linear) {
            true => Self::Packed(PackedLinear::new(&linear)?),
            false => Self::Plain(linear),
        })
    }

    /// Loads `weight` `[out, in]` and `bias` `[out]` below `path`.
    pub(crate) fn load(path: &WeightPath<'_>, inputs: i64, outputs: i64) -> Result<Self, LoadError> {
        Ok(Self::new(Linear::load(path, inputs, outputs)?)?)
    }

    /// `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Plain(linear) => linear.forward(input),
            Self::Packed(linear) => linear.forward(input),
            Self::Int8(linear) => linear.forward(input),
        }
    }

    /// As [`Self::forward`], with the exact (erf) GELU of the result.
    pub(crate) fn forward_gelu(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Plain(linear) => linear.forward(input)?.f_gelu_("none"),
            Self::Packed(linear) => linear.forward_gelu(input),
            Self::Int8(linear) => linear.forward(input)?.f_gelu_("none"),
        }
    }
}

/// Two linear layers with the exact (erf) GELU between them.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) up: Dense,
    pub(crate) down: Dense,
}

impl FeedForward {
    /// `[.., hidden]` to `[.., hidden]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.down.forward(&self.up.forward_gelu(input)?)
    }
}
