//! Reads all strips or tiles of a page into its RGB image.

use crate::{
    admission::pixel_bytes,
    codec::tiff::{
        compression::Compression,
        directory::Directory,
        errors::{corrupt, truncated},
        grid::{Cell, Grid},
        jpeg_cell::{self, JPEG_TABLES, MAX_JPEG_CELLS, WORKING_ROWS},
        page::Page,
        predictor,
    },
    error::DecodeError,
};

pub(super) struct CellReader<'a> {
    file: &'a [u8],
    page: &'a Page,
    grid: Grid,
    jpeg_tables: Option<&'a [u8]>,
}

impl<'a> CellReader<'a> {
    /// Prepares the reading of a page, if its cells are no more work than its pixels.
    pub(super) fn new(directory: &Directory<'a>, page: &'a Page) -> Result<Self, DecodeError> {
        let (file, grid) = (directory.file(), page.grid(directory)?);
        let jpegs = grid.len() * page.layout.planes;
        if page.compression == Compression::Jpeg && jpegs > MAX_JPEG_CELLS {
            return Err(corrupt(format_args!("{jpegs} JPEG files, at most {MAX_JPEG_CELLS} allowed")));
        }
        // Cells may share bytes, as equal tiles do, but not to decode the same bytes without end.
        let (total, limit) = (grid.total_bytes(file), file.len() as u64 + decoded_bytes(page));
        if page.compression != Compression::None && total > limit {
            return Err(corrupt(format_args!("strips or tiles of {total} bytes, at most {limit} allowed")));
        }
        Ok(Self { file, page, grid, jpeg_tables: directory.bytes(JPEG_TABLES)? })
    }

    /// Returns the memory for reading one cell, and for turning the image.
    pub(super) fn working_bytes(&self) -> u64 {
        let (width, rows) = self.grid.cell;
        let layout = self.page.layout;
        let plane = (layout.row_bytes(width) as u64).saturating_mul(rows.into());
        // The samples of all planes, again as pixels, and the copy of a file of reversed bits.
        let planes = if layout.planes > 1 { 2 * layout.planes as u64 } else { 1 };
        let reversed = if self.page.is_reversed { self.file.len() as u64 } else { 0 };
        let jpeg = match self.page.compression {
            // The buffers of libjpeg, and a last strip with all rows of the others.
            Compression::Jpeg => {
                let padded = width.checked_next_multiple_of(32).unwrap_or(u32::MAX);
                let rows = (padded, layout.samples as u32);
                pixel_bytes(rows, WORKING_ROWS).saturating_add(plane)
            }
            _ => 0,
        };
        let turned =
            if (2..=8).contains(&self.page.orientation) { pixel_bytes(self.page.size, 3) } else { 0 };
        let row = pixel_bytes((width, 1), 3 + 2 * layout.samples as u64);
        [plane.saturating_mul(planes), reversed, jpeg, turned, row].into_iter().fold(0, u64::saturating_add)
    }

    /// Decodes all cells to `rgb`, 3 bytes a pixel.
    pub(super) fn read(&mut self, rgb: &mut [u8]) -> Result<(), DecodeError> {
        let image_row = self.page.size.0 as usize * 3;
        let width = self.grid.cell.0;
        let (mut samples, mut converted) = (Vec::new(), Vec::new());
        for cell in self.grid.cells() {
            self.read_samples(&cell, &mut samples)?;
            let row_bytes = self.pixel_row_bytes(width);
            let lines = rgb.chunks_exact_mut(image_row).skip(cell.origin.1 as usize);
            let visible = cell.visible.0 as usize;
            for (line, row) in lines.zip(samples.chunks_exact(row_bytes).take(cell.visible.1 as usize)) {
                converted.clear();
                self.page.pixels.push_row(&mut converted, row, width as usize);
                let place = line.iter_mut().skip(cell.origin.0 as usize * 3).take(visible * 3);
                place.zip(&converted).for_each(|(to, from)| *to = *from);
            }
        }
        Ok(())
    }

    /// Returns the bytes of a row of whole pixels.
    fn pixel_row_bytes(&self, width: u32) -> usize {
        self.page.layout.row_bytes(width) * self.page.layout.planes
    }

    /// Decodes a cell to whole pixels.
    fn read_samples(&self, cell: &Cell, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let layout = self.page.layout;
        let plane_bytes = layout.row_bytes(self.grid.cell.0) * cell.rows as usize;
        out.clear();
        out.resize(plane_bytes * layout.planes, 0);
        if layout.planes == 1 {
            return self.read_plane(cell, 0, out);
        }
        let mut planes = vec![0; out.len()];
        for (plane, bytes) in planes.chunks_exact_mut(plane_bytes).enumerate() {
            self.read_plane(cell, plane, bytes)?;
        }
        // Planes exist of samples of 8 and 16 bits only.
        let size = usize::from(layout.bits / 8).max(1);
        for (plane, bytes) in planes.chunks_exact(plane_bytes).enumerate() {
            let places = out.chunks_exact_mut(size).skip(plane).step_by(layout.planes);
            for (to, from) in places.zip(bytes.chunks_exact(size)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Decodes one plane of a cell.
    fn read_plane(&self, cell: &Cell, plane: usize, out: &mut [u8]) -> Result<(), DecodeError> {
        let Page { layout, compression, predictor, is_reversed, .. } = *self.page;
        let index = plane * self.grid.len() + cell.index;
        let data = match compression {
            // The size of uncompressed cells is known. Some files have other byte counts.
            Compression::None => self.grid.bytes_to_end(self.file, index),
            _ => self.grid.bytes(self.file, index),
        };
        let data = data.ok_or_else(truncated)?;
        let width = self.grid.cell.0;
        if compression == Compression::Jpeg {
            let size = ((width, cell.rows), layout.samples);
            return jpeg_cell::decode(
                self.jpeg_tables,
                data,
                size,
                self.grid.cell.1,
                self.page.is_ycbcr,
                out,
            );
        }
        let row_bytes = layout.row_bytes(width);
        if is_reversed {
            let used = if compression == Compression::None { out.len() } else { data.len() };
            let reversed: Vec<u8> = data.iter().take(used).map(|byte| byte.reverse_bits()).collect();
            compression.decompress(&reversed, out, row_bytes, width)?;
        } else {
            compression.decompress(data, out, row_bytes, width)?;
        }
        predictor::restore(predictor, &layout, out, row_bytes)
    }
}

/// Returns the bytes of all decoded samples.
fn decoded_bytes(page: &Page) -> u64 {
    let bits = u64::from(page.layout.bits) * (page.layout.samples * page.layout.planes) as u64;
    pixel_bytes(page.size, bits.div_ceil(8))
}
