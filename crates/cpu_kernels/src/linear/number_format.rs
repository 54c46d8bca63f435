//! The number formats of linear layers.

use crate::tiles::{kernel::TileKernel, layout::TileFormat};

/// The number format of a layer's weights and products. Sums are in f32, and integers in int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NumberFormat {
    /// 32-bit floating point.
    #[default]
    F32,
    /// The upper 16 bits of f32, rounded to the nearest. A layer has half the memory. Inputs are
    /// rounded, too, if the processor has products in bf16 (AVX-512 or AMX). On others products are
    /// in f32.
    Bf16,
    /// 8-bit integers. Inputs are rounded, too.
    Int8,
}

impl NumberFormat {
    /// Returns whether the processor can compute a layer in this format.
    #[must_use]
    pub fn is_supported(self) -> bool {
        self != Self::Int8 || self.has_products()
    }

    /// Returns whether the processor has products in this format.
    #[must_use]
    pub fn has_products(self) -> bool {
        self.tile_format().is_none_or(|format| TileKernel::new(format).is_some())
    }

    pub(super) fn tile_format(self) -> Option<TileFormat> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(TileFormat::Bf16),
            Self::Int8 => Some(TileFormat::Int8),
        }
    }
}
