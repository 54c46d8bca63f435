//! Decodes the first page of a TIFF and applies its orientation tag.
//!
//! The page is read strip by strip, or tile by tile, so that the memory of one is enough. The
//! `tiff` crate decodes whatever a strip contains, and converts fewer modes than the reference. A
//! library decodes each compression.

mod cells;
mod page;
mod pixels;
mod grid;
mod predictor;
mod jpeg_cell;
mod compression;
mod fax;
mod samples;
mod directory;
mod errors;

use cells::CellReader;
use directory::Directory;
use page::Page;

use crate::{
    admission::Admission, codec::orientation::upright, error::DecodeError, format::Format,
    rgb_image::RgbImage,
};

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let directory = Directory::read(bytes)?;
    let page = Page::read(&directory)?;
    admission.check_size(page.size)?;
    let mut cells = CellReader::new(&directory, &page)?;
    let admitted = admission.admit(page.size, cells.working_bytes())?;
    let mut rgb = vec![0; admitted.pixels() * 3];
    cells.read(&mut rgb)?;
    Ok(upright(admitted.finish(Format::Tiff, rgb)?, page.orientation))
}
