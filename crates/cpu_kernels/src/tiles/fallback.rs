//! The instructions on processors other than x86-64, where none is supported.

use pulp::Scalar;

use super::layout::{
    BLOCK_ROWS, Line, MatrixPart, PANEL_COLUMNS, PanelTile, SumRows, TILE_ROWS, Tile, TileFormat,
};

/// Proof of AVX2, which cannot be constructed.
pub(super) type Avx2 = Avx512;

/// Proof of AVX-512, which cannot be constructed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Avx512 {}

/// Proof of AVX-512 for bf16, which cannot be constructed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bf16Vectors {}

/// Proof of AMX, which cannot be constructed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amx {}

/// Tile registers, which cannot be prepared.
#[derive(Debug)]
pub(super) enum AmxTiles {}

impl Avx512 {
    pub(super) fn row_lines(lines: usize) -> usize {
        lines
    }

    pub(super) fn try_new(_: TileFormat) -> Option<Self> {
        None
    }

    pub(super) fn simd(self) -> Scalar {
        match self {}
    }

    pub(super) fn round<'a>(self, _: &[f32], _: impl Iterator<Item = &'a mut Line>) -> f32 {
        match self {}
    }

    pub(super) fn as_bf16(self) -> Option<Bf16Vectors> {
        match self {}
    }

    pub(super) fn multiply(self, _: [&[Tile]; 2], _: usize, _: &[PanelTile], _: &[Line; 2], _: SumRows<'_>) {
        match self {}
    }

    pub(super) fn convert_sums(self, _: &[Line; 2], _: &mut [[Line; 2]]) {
        match self {}
    }
}

impl Bf16Vectors {
    pub(super) fn simd(self) -> Scalar {
        match self {}
    }

    pub(super) fn round_tile(self, _: &[[Line; 2]; TILE_ROWS], _: &mut Tile) {
        match self {}
    }

    pub(super) fn finish_rows(
        self,
        _: &[[Line; 2]],
        _: &[f32],
        _: [&[f32; PANEL_COLUMNS]; 2],
        _: MatrixPart<'_>,
    ) {
        match self {}
    }

    pub(super) fn round_rows(self, _: &[f32], _: usize, _: usize, _: &mut [Line]) {
        match self {}
    }

    pub(super) fn copy_rows(self, _: &[u16], _: usize, _: usize, _: &mut [Line]) {
        match self {}
    }

    pub(super) fn transpose(self, _: &[Line; BLOCK_ROWS], _: &mut PanelTile) {
        match self {}
    }

    pub(super) fn pair_rows(self, _: &[Line; BLOCK_ROWS], _: &mut PanelTile) {
        match self {}
    }

    pub(super) fn round_softmax<'a>(
        self,
        _: &mut [f32],
        _: usize,
        _: f32,
        _: impl Iterator<Item = &'a mut Line>,
    ) -> f32 {
        match self {}
    }
}

impl Amx {
    pub(super) fn try_new(_: TileFormat) -> Option<Self> {
        None
    }

    pub(super) fn prepare(self) -> AmxTiles {
        match self {}
    }
}

impl AmxTiles {
    pub(super) fn multiply(
        &self,
        _: TileFormat,
        _: [&[Tile]; 2],
        _: &[PanelTile],
        _: &[PanelTile],
        _: SumRows<'_>,
    ) {
        match *self {}
    }
}
