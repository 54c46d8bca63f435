//! Linear layers with the kernels of oneDNN, which LibTorch has.

pub(crate) mod packed_linear;
mod interface;
