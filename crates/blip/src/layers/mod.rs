//! Building blocks of all networks on LibTorch: linear layers, norms, attention, embeddings.

pub(crate) mod attention;
pub(crate) mod dense;
pub(crate) mod text_embeddings;
pub(crate) mod layer_norm;
pub(crate) mod native_linear;
pub(crate) mod onednn;
pub(crate) mod fp8_linear;
pub(crate) mod linear;
pub(crate) mod position_embeddings;
pub(crate) mod tensor_slice;
pub(crate) mod weight_path;
pub(crate) mod fused_kernels;
