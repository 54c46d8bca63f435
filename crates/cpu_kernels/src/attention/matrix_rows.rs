//! Rows of a matrix, or columns of each.

/// Rows of a matrix that begin at a constant distance.
#[derive(Clone, Copy, Debug)]
pub struct MatrixRows<'a> {
    /// The values, from the first one of the first row.
    pub data: &'a [f32],
    /// The distance between the first values of two adjacent rows.
    pub stride: usize,
}

impl<'a> MatrixRows<'a> {
    /// Returns the rows without their first `count` columns.
    #[must_use]
    pub fn skip_columns(self, count: usize) -> Self {
        Self { data: self.data.get(count..).unwrap_or_default(), ..self }
    }

    /// Returns the first `width` values of each row.
    #[inline(always)]
    pub(super) fn iter(self, width: usize) -> impl Iterator<Item = &'a [f32]> {
        self.data.chunks(self.stride.max(1)).filter_map(move |row| row.get(..width))
    }
}
