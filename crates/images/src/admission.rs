//! Admission of an image by its header.

use crate::{
    error::DecodeError,
    format::Format,
    limits::Limits,
    memory_budget::{BudgetPermit, MemoryBudget},
    rgb_image::RgbImage,
};

/// The gate that every codec passes between reading a header and allocating for its image.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    budget: MemoryBudget,
}

/// Leave to decode an image of this size.
#[derive(Debug)]
pub(crate) struct AdmittedImage<'a> {
    width: u32,
    height: u32,
    _permit: BudgetPermit<'a>,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        let budget = MemoryBudget::new(limits.max_decode_bytes_in_flight);
        Self { limits, budget }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets an image of this size be decoded, once the memory for `scratch_bytes_per_pixel` beside
    /// the RGB result is free.
    pub(crate) fn admit(
        &self,
        (width, height): (u32, u32),
        scratch_bytes_per_pixel: u64,
    ) -> Result<AdmittedImage<'_>, DecodeError> {
        let Limits { max_side, max_pixels, max_decode_bytes_in_flight, .. } = self.limits;
        if width.max(height) > max_side {
            return Err(DecodeError::SideTooLong { width, height, limit: max_side });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > max_pixels {
            return Err(DecodeError::TooManyPixels { width, height, limit: max_pixels });
        }
        let needed = pixels.saturating_mul(scratch_bytes_per_pixel.saturating_add(3));
        let permit = self
            .budget
            .reserve(needed)
            .ok_or(DecodeError::TooMuchMemory { needed, limit: max_decode_bytes_in_flight })?;
        Ok(AdmittedImage { width, height, _permit: permit })
    }
}

impl AdmittedImage<'_> {
    /// An empty buffer with room for the RGB result.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        Vec::with_capacity(self.width as usize * self.height as usize * 3)
    }

    /// The finished image.
    pub(crate) fn finish(self, format: Format, data: Vec<u8>) -> Result<RgbImage, DecodeError> {
        let Self { width, height, .. } = self;
        if data.is_empty() || data.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(DecodeError::corrupt(
                format,
                format_args!("no whole image of {width} x {height} pixels"),
            ));
        }
        Ok(RgbImage { width, height, data })
    }
}
