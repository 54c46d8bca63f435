//! The BLIP model on LibTorch.
