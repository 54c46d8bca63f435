//! The kernel on processors other than x86-64, where it is never supported.

use pulp::Scalar;

use super::layout::{BLOCK_ROWS, Line, PanelTile, TILE_ROWS, Tile, TileFormat};

/// A kernel, which cannot be constructed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TileKernel {}

/// A prepared kernel, which cannot be constructed.
#[derive(Debug)]
pub(crate) enum PreparedKernel {}

impl TileKernel {
    pub(crate) fn new(_: TileFormat) -> Option<Self> {
        None
    }

    #[cfg(test)]
    pub(crate) fn without_amx(self) -> Self {
        self
    }

    pub(crate) fn simd(self) -> Scalar {
        match self {}
    }

    pub(crate) fn format(self) -> TileFormat {
        match self {}
    }

    pub(crate) fn round<'a>(self, _: &[f32], _: impl Iterator<Item = &'a mut Line>) -> f32 {
        match self {}
    }

    pub(crate) fn round_tile(self, _: &[[Line; 2]; TILE_ROWS], _: &mut Tile) {
        match self {}
    }

    pub(crate) fn pair(self, _: &[f32], _: &[f32]) -> Line {
        match self {}
    }

    pub(crate) fn round_softmax<'a>(
        self,
        _: &mut [f32],
        _: usize,
        _: f32,
        _: impl Iterator<Item = &'a mut Line>,
    ) -> f32 {
        match self {}
    }

    pub(crate) fn prepare(self) -> PreparedKernel {
        match self {}
    }
}

impl PreparedKernel {
    pub(crate) fn multiply(
        &self,
        _: [&[Tile]; 2],
        _: usize,
        _: &[PanelTile],
        _: &[Line; 2],
        _: &[PanelTile],
        _: &mut [[Line; 2]; BLOCK_ROWS],
    ) {
        match *self {}
    }
}
