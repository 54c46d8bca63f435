//! Attention kernels of LibTorch that are called by name.

pub(crate) mod cudnn;
pub(crate) mod token_ranges;
mod self_check;
pub(crate) mod token_range;
