//! The best instructions of this processor for a number format.

use pulp::{Simd, WithSimd};

#[cfg(not(target_arch = "x86_64"))]
use super::fallback::{Amx, AmxTiles, Avx2, Avx512, Bf16Vectors};
use super::layout::{
    BLOCK_ROWS, Line, MatrixPart, PANEL_COLUMNS, PanelTile, SumRows, Sums, TILE_ROWS, Tile, TileFormat,
};
use super::quantization::INPUT_ZERO_POINT;
#[cfg(target_arch = "x86_64")]
use super::{
    amx::{Amx, AmxTiles},
    avx2::Avx2,
    avx512::Avx512,
    bf16_vectors::Bf16Vectors,
};

/// Rounds rows and multiplies them by panels.
///
/// All products of a format use the same instructions, so a row's sums do not depend on the number
/// of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileKernel {
    vectors: Vectors,
    amx: Option<Amx>,
    format: TileFormat,
}

/// The instructions for what AMX does not compute.
#[derive(Clone, Copy, Debug)]
enum Vectors {
    Avx512(Avx512),
    Avx2(Avx2),
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
        let Some(vectors) = Avx512::try_new(format).map(Vectors::Avx512) else {
            return Self::try_avx2(format);
        };
        Some(Self { vectors, amx: Amx::try_new(format), format })
    }

    /// Returns the kernel with AVX2.
    fn try_avx2(format: TileFormat) -> Option<Self> {
        Some(Self { vectors: Vectors::Avx2(Avx2::try_new(format)?), amx: None, format })
    }

    /// Returns the different kernels of this processor.
    #[cfg(test)]
    pub(crate) fn all(format: TileFormat) -> Vec<Self> {
        let best = Self::new(format);
        let without_amx = best.filter(|kernel| kernel.amx.is_some()).map(Self::without_amx);
        let avx2 = best.filter(|kernel| matches!(kernel.vectors, Vectors::Avx512(_)));
        let avx2 = avx2.and_then(|_| Self::try_avx2(format));
        [best, without_amx, avx2].into_iter().flatten().collect()
    }

    /// Returns the kernel without AMX.
    #[cfg(test)]
    fn without_amx(self) -> Self {
        Self { amx: None, ..self }
    }

    /// Returns the number format.
    pub(crate) fn format(self) -> TileFormat {
        self.format
    }

    /// Returns the integer that stands for an input of 0.
    pub(crate) fn input_zero_point(self) -> i32 {
        match self.vectors {
            Vectors::Avx512(_) => INPUT_ZERO_POINT.into(),
            Vectors::Avx2(_) => 0,
        }
    }

    /// Returns the number of lines of a rounded row of `inputs` inputs.
    pub(crate) fn row_lines(self, inputs: usize) -> usize {
        match self.vectors {
            Vectors::Avx512(_) => self.format.lines(inputs),
            Vectors::Avx2(_) => Avx2::row_lines(self.format.lines(inputs)),
        }
    }

    /// Runs `operation` with the vectors for what is not a product.
    pub(crate) fn vectorize<T: WithSimd>(self, operation: T) -> T::Output {
        match self.vectors {
            Vectors::Avx512(avx512) => Simd::vectorize(avx512.simd(), operation),
            Vectors::Avx2(avx2) => Simd::vectorize(avx2.simd(), operation),
        }
    }

    /// Rounds a row to its lines, and returns what the integer 1 stands for.
    ///
    /// There are [`Self::row_lines`] of them.
    pub(crate) fn round<'a>(self, row: &[f32], lines: impl Iterator<Item = &'a mut Line>) -> f32 {
        match self.vectors {
            Vectors::Avx512(avx512) => avx512.round(row, lines),
            Vectors::Avx2(avx2) => avx2.round(row, lines),
        }
    }

    /// Returns the kernel as one for bf16, if it is.
    pub(crate) fn as_bf16(self) -> Option<Bf16Kernel> {
        match self.vectors {
            Vectors::Avx512(avx512) => Some(Bf16Kernel { tiles: self, vectors: avx512.as_bf16()? }),
            Vectors::Avx2(_) => None,
        }
    }

    /// Prepares the registers of the current thread.
    pub(crate) fn prepare(self) -> PreparedKernel {
        PreparedKernel { kernel: self, amx: self.amx.map(Amx::prepare) }
    }
}

/// A kernel for bf16. It also packs keys and values, and computes the softmax.
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

    /// Runs `operation` with the vectors for other operations.
    pub(crate) fn vectorize<T: WithSimd>(self, operation: T) -> T::Output {
        Simd::vectorize(self.vectors.simd(), operation)
    }

    /// Returns the kernel that rounds rows and multiplies them.
    pub(crate) fn tiles(self) -> TileKernel {
        self.tiles
    }

    /// Rounds 32 numbers of each of 16 rows.
    pub(crate) fn round_tile(self, rows: &[[Line; 2]; TILE_ROWS], tile: &mut Tile) {
        self.vectors.round_tile(rows, tile);
    }

    /// Turns the sums of a panel into results, and rounds them.
    ///
    /// `scales` and `bias` are those of the columns.
    pub(crate) fn finish_rows(
        self,
        sums: &[[Line; 2]],
        row_scales: &[f32],
        scales: &[f32; PANEL_COLUMNS],
        bias: &[f32; PANEL_COLUMNS],
        out: MatrixPart<'_>,
    ) {
        self.vectors.finish_rows(sums, row_scales, [scales, bias], out);
    }

    /// Rounds the first `width` numbers, at most 32, of each row to one of `lines`. Zeros fill the
    /// rest.
    pub(crate) fn round_rows(self, rows: &[f32], stride: usize, width: usize, lines: &mut [Line]) {
        self.vectors.round_rows(rows, stride, width, lines);
    }

    /// Copies rounded numbers like [`Self::round_rows`].
    pub(crate) fn copy_rows(self, rows: &[u16], stride: usize, width: usize, lines: &mut [Line]) {
        self.vectors.copy_rows(rows, stride, width, lines);
    }

    /// Writes the rows as columns. A pair of lines of `tile` has the same group of all rows.
    pub(crate) fn transpose(self, rows: &[Line; BLOCK_ROWS], tile: &mut PanelTile) {
        self.vectors.transpose(rows, tile);
    }

    /// Writes two adjacent rows as a pair of lines of `tile`. Each group has a number of both.
    pub(crate) fn pair_rows(self, rows: &[Line; BLOCK_ROWS], tile: &mut PanelTile) {
        self.vectors.pair_rows(rows, tile);
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
    /// [`TileKernel::row_lines`]. AMX loads `next` into the second cache meanwhile.
    pub(crate) fn multiply(
        &self,
        tiles: [&[Tile]; 2],
        rows: usize,
        panel: &[PanelTile],
        compensation: &[Line; 2],
        next: &[PanelTile],
        sums: &mut Sums,
    ) {
        match (self.kernel.vectors, &self.amx) {
            (Vectors::Avx512(avx512), Some(amx)) => {
                amx.multiply(self.kernel.format, tiles, panel, next, sums.rows());
                if self.kernel.format == TileFormat::Int8 {
                    avx512.convert_sums(compensation, sums.0.get_mut(..rows).unwrap_or_default());
                }
            }
            (Vectors::Avx512(avx512), None) => {
                avx512.multiply(tiles, rows, panel, compensation, sums.rows());
            }
            (Vectors::Avx2(avx2), _) => avx2.multiply(tiles, rows, panel, compensation, sums.rows()),
        }
    }

    /// Multiplies rows in bf16 like [`Self::multiply`], to any place.
    ///
    /// `sums` has room for 16 rows, or for 32 with two tiles. What follows the last row is
    /// unspecified.
    pub(crate) fn multiply_bf16(
        &self,
        tiles: [&[Tile]; 2],
        rows: usize,
        panel: &[PanelTile],
        sums: SumRows<'_>,
    ) {
        debug_assert_eq!(self.kernel.format, TileFormat::Bf16);
        match (self.kernel.vectors, &self.amx) {
            (_, Some(amx)) => amx.multiply(self.kernel.format, tiles, panel, &[], sums),
            (Vectors::Avx512(avx512), None) => {
                avx512.multiply(tiles, rows, panel, &Default::default(), sums);
            }
            (Vectors::Avx2(avx2), None) => avx2.multiply(tiles, rows, panel, &Default::default(), sums),
        }
    }
}
