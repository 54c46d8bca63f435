//! Rows of a matrix.

/// Rows of numbers, each beginning so many behind the one before.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// From the first row's first number on.
    pub numbers: &'a [f32],
    /// From one row's first number to the next one's.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Part of each row, from its number `first` on.
    #[must_use]
    pub fn from(self, first: usize) -> Self {
        Self { numbers: self.numbers.get(first..).unwrap_or_default(), ..self }
    }

    /// Each row's first `width` numbers.
    #[inline(always)]
    pub(super) fn iter(self, width: usize) -> impl Iterator<Item = &'a [f32]> {
        self.numbers.chunks(self.stride.max(1)).filter_map(move |row| row.get(..width))
    }
}
