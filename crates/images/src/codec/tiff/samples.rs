//! How samples are stored, and what decides how they become colours.

/// How the samples of a cell are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleLayout {
    /// 1, 2, 4, 8, 12, 16 or 32.
    pub(super) bits: u8,
    /// The samples of a pixel that each plane has.
    pub(super) samples: usize,
    /// 1, or one for each sample.
    pub(super) planes: usize,
    pub(super) is_little_endian: bool,
}

impl SampleLayout {
    /// Returns the bytes of a row of one plane.
    pub(super) fn row_bytes(&self, width: u32) -> usize {
        (width as usize * self.samples * usize::from(self.bits)).div_ceil(8)
    }
}

/// What decides how samples become colours.
pub(super) struct Samples {
    pub(super) photometric: u64,
    pub(super) bits: u8,
    /// All samples of a pixel, in one plane or several.
    pub(super) count: usize,
    /// 1 for unsigned, 2 for signed and 3 for floating-point numbers.
    pub(super) format: u64,
    /// The meaning of samples after the colours: 0 unspecified, 1 premultiplied alpha, 2 alpha.
    pub(super) extra: Vec<u64>,
    pub(super) color_map: Option<Vec<u64>>,
    pub(super) is_little_endian: bool,
    pub(super) is_jpeg: bool,
}
