//! Memory that a batch leaves to the next one.

/// Numbers that are written before they are read.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<f32>);

impl Buffer {
    /// So many of them, with whatever was there before.
    pub(super) fn take(&mut self, count: usize) -> &mut [f32] {
        if self.0.len() < count {
            self.0.resize(count, 0.0);
        }
        self.0.get_mut(..count).unwrap_or_default()
    }
}

/// What the layers of a tower need beside their states; none needs what another left there.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// `[rows, hidden]`.
    pub(super) normed: Buffer,
    /// Queries, keys and values, or a feed-forward's inner states.
    pub(super) wide: Buffer,
    /// `[rows, hidden]`: what attention gives.
    pub(super) context: Buffer,
    /// Keys and values as attention reads them.
    pub(super) packed: Buffer,
    /// Attention's own.
    pub(super) scores: Vec<f32>,
}
