//! The best instructions of this processor for a number format.

#[cfg(not(target_arch = "x86_64"))]
use super::fallback::{Amx, AmxTiles, Avx512, Bf16Vectors, Vectors};
use super::layout::{BLOCK_ROWS, Line, PanelTile, TILE_ROWS, Tile, TileFormat};
#[cfg(target_arch = "x86_64")]
use super::{
    amx::{Amx, AmxTiles},
    avx512::{Avx512, Bf16Vectors, Vectors},
};

/// Rounds rows and multiplies them by panels.
///
/// All products of a format use the same instructions, so a row's sums do not depend on the number
/// of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileKernel {
    avx512: Avx512,
    amx: Option<Amx>,
    format: TileFormat,
}

/// A kernel whose registers are ready on the current thread. Only one may exist on a thread at a
/// time.
#[derive(Debug)]
pub(crate) struct PreparedKernel {
    kernel: TileKernel,
    amx: Option<AmxTiles>,
}

impl TileKernel {
    /// Returns `None` if the processor has no instructions for `format`.
    pub(crate) fn new(format: TileFormat) -> Option<Self> {
        Some(Self { avx512: Avx512::try_new(format)?, amx: Amx::try_new(format), format })
    }

    /// Returns the kernel without AMX.
    #[cfg(test)]
    pub(crate) fn without_amx(self) -> Self {
        Self { amx: None, ..self }
    }

    /// Returns the number format.
    pub(crate) fn format(self) -> TileFormat {
        self.format
    }

    /// Returns the vectors for what is not a product.
    pub(crate) fn simd(self) -> Vectors {
        self.avx512.simd()
    }

    /// Rounds a row to `lines`, and returns what the integer 1 stands for.
    ///
    /// `lines` are in the order of the row. The last one is filled up with zeros.
    pub(crate) fn round<'a>(self, row: &[f32], lines: impl Iterator<Item = &'a mut Line>) -> f32 {
        self.avx512.round(row, lines)
    }

    /// Returns the kernel as one for bf16, if it is.
    pub(crate) fn as_bf16(self) -> Option<Bf16Kernel> {
        Some(Bf16Kernel { tiles: self, vectors: self.avx512.as_bf16()? })
    }

    /// Prepares the registers of the current thread.
    pub(crate) fn prepare(self) -> PreparedKernel {
        PreparedKernel { kernel: self, amx: self.amx.map(Amx::prepare) }
    }
}

/// A kernel for bf16. It also rounds what is not a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16Kernel {
    tiles: TileKernel,
    vectors: Bf16Vectors,
}

impl Bf16Kernel {
    /// Returns `None` if the processor has no instructions for bf16.
    pub(crate) fn new() -> Option<Self> {
        TileKernel::new(TileFormat::Bf16)?.as_bf16()
    }

    /// Returns the kernel without AMX.
    #[cfg(test)]
    pub(crate) fn without_amx(self) -> Self {
        Self { tiles: self.tiles.without_amx(), ..self }
    }

    /// Returns the kernel that rounds rows and multiplies them.
    pub(crate) fn tiles(self) -> TileKernel {
        self.tiles
    }

    /// Rounds 32 numbers of each of 16 rows.
    pub(crate) fn round_tile(self, rows: &[[Line; 2]; TILE_ROWS], tile: &mut Tile) {
        self.vectors.round_tile(rows, tile);
    }

    /// Rounds two rows of up to 16 numbers. Each group has a number of both rows.
    pub(crate) fn pair(self, first: &[f32], second: &[f32]) -> Line {
        self.vectors.pair(first, second)
    }

    /// Rounds the numerators of a softmax in `lines`, and returns the denominator.
    ///
    /// `scores` has whole lines, of which the first `tokens` numbers count. They are multiplied by
    /// `scale` first.
    pub(crate) fn round_softmax<'a>(
        self,
        scores: &mut [f32],
        tokens: usize,
        scale: f32,
        lines: impl Iterator<Item = &'a mut Line>,
    ) -> f32 {
        self.vectors.round_softmax(scores, tokens, scale, lines)
    }
}

impl PreparedKernel {
    /// Multiplies `rows` rows by a panel, in f32. Integer sums begin with `compensation`.
    ///
    /// The two tiles have the lines of 16 rows each, the second one may be empty. Their length is
    /// that of `panel`. AMX loads `next` into the second cache meanwhile.
    pub(crate) fn multiply(
        &self,
        tiles: [&[Tile]; 2],
        rows: usize,
        panel: &[PanelTile],
        compensation: &[Line; 2],
        next: &[PanelTile],
        sums: &mut [[Line; 2]; BLOCK_ROWS],
    ) {
        let Some(amx) = &self.amx else {
            return self.kernel.avx512.multiply(tiles, rows, panel, compensation, sums);
        };
        amx.multiply(self.kernel.format, tiles, panel, next, sums);
        if self.kernel.format == TileFormat::Int8 {
            let sums = sums.get_mut(..rows).unwrap_or_default();
            self.kernel.avx512.convert_sums(compensation, sums);
        }
    }
}
