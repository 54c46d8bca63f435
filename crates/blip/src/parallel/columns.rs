//! Copies of adjacent columns of a matrix.

/// Columns from `first` on of rows that have `width` numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) width: usize,
}

impl Columns {
    /// Copies the columns of `all` `[rows, width]` to `part` `[rows, count]`.
    pub(super) fn read(self, all: &[f32], part: &mut [f32]) {
        for (row, part) in all.chunks_exact(self.width).zip(part.chunks_exact_mut(self.count)) {
            part.copy_from_slice(row.get(self.first..self.first + self.count).unwrap_or_default());
        }
    }

    /// Copies `part` `[rows, count]` to the columns of `all` `[rows, width]`.
    pub(super) fn write(self, part: &[f32], all: &mut [f32]) {
        for (row, part) in all.chunks_exact_mut(self.width).zip(part.chunks_exact(self.count)) {
            row.get_mut(self.first..self.first + self.count).unwrap_or_default().copy_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_columns_are_read_back_and_others_stay() {
        let columns = Columns { first: 1, count: 2, width: 4 };
        let mut all = [0.0; 8];
        columns.write(&[1.0, 2.0, 3.0, 4.0], &mut all);
        assert_eq!(all, [0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0]);
        let mut part = [0.0; 4];
        columns.read(&all, &mut part);
        assert_eq!(part, [1.0, 2.0, 3.0, 4.0]);
    }
}
