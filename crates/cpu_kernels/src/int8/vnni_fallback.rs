//! The int8 kernel on processors other than x86-64, where it is never supported.

use super::{quantized_weights::QuantizedWeights, scratch::Int8Scratch};
use crate::epilogue::Epilogue;

/// Proof of AVX-512 VNNI, which cannot be constructed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Vnni {}

impl Vnni {
    pub(super) fn try_new() -> Option<Self> {
        None
    }

    /// Is never called.
    pub(super) fn forward(
        self,
        _: &QuantizedWeights,
        _: &[f32],
        _: &mut [f32],
        _: Epilogue,
        _: &mut Int8Scratch,
    ) {
        match self {}
    }
}
