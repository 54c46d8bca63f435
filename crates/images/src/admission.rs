//! Checks an image's header against the limits before a codec allocates memory for its pixels.
//!
//! Every codec reads the header, calls [`Admission::admit`], decodes, and ends with
//! [`AdmittedImage::finish`].

use std::{fmt, sync::Arc};

use crate::{
    error::DecodeError,
    format::Format,
    limits::Limits,
    memory_budget::{BudgetPermit, MemoryBudget},
    rgb_image::RgbImage,
};

/// Reserves memory, in bytes, in a budget outside this process. Returns false if it cannot.
pub type ReserveMemory = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// The limits on images and the memory budget that all decodes of one decoder share.
pub(crate) struct Admission {
    limits: Limits,
    budget: MemoryBudget,
    /// The budget of further processes.
    reserve_outside: Option<ReserveMemory>,
}

/// An image within the limits, with its reserved memory. The memory is released on drop.
#[derive(Debug)]
pub(crate) struct AdmittedImage<'a> {
    width: u32,
    height: u32,
    _permit: BudgetPermit<'a>,
}

impl Admission {
    pub(crate) fn new(limits: Limits, reserve_outside: Option<ReserveMemory>) -> Self {
        let budget = MemoryBudget::new(limits.max_decode_bytes_in_flight);
        Self { limits, budget, reserve_outside }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Checks the size of an image and reserves the memory for decoding it.
    ///
    /// The memory is 3 bytes a pixel for the RGB result, plus `scratch_bytes` for everything else
    /// that the codec and its library allocate. Blocks until the budget has that much free.
    pub(crate) fn admit(
        &self,
        (width, height): (u32, u32),
        scratch_bytes: u64,
    ) -> Result<AdmittedImage<'_>, DecodeError> {
        self.check_size((width, height))?;
        let limit = self.limits.max_decode_bytes_in_flight;
        let needed = pixel_bytes((width, height), 3).saturating_add(scratch_bytes);
        let permit = self
            .budget
            .reserve(needed)
            .filter(|_| self.reserve_outside.as_ref().is_none_or(|reserve| reserve(needed)))
            .ok_or(DecodeError::TooMuchMemory { needed, limit })?;
        Ok(AdmittedImage { width, height, _permit: permit })
    }

    /// Checks the size of an image, before the codec reads what depends on it.
    pub(crate) fn check_size(&self, (width, height): (u32, u32)) -> Result<(), DecodeError> {
        let Limits { max_side, max_pixels, .. } = self.limits;
        if width.max(height) > max_side {
            return Err(DecodeError::SideTooLong { width, height, limit: max_side });
        }
        if u64::from(width) * u64::from(height) > max_pixels {
            return Err(DecodeError::TooManyPixels { width, height, limit: max_pixels });
        }
        Ok(())
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, budget, reserve_outside: _ } = self;
        f.debug_struct("Admission").field("limits", limits).field("budget", budget).finish_non_exhaustive()
    }
}

/// Returns the size of an image with `bytes` a pixel.
pub(crate) fn pixel_bytes((width, height): (u32, u32), bytes: u64) -> u64 {
    (u64::from(width) * u64::from(height)).saturating_mul(bytes)
}

impl AdmittedImage<'_> {
    /// Returns the number of pixels.
    pub(crate) fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Returns an empty buffer with the capacity of the RGB result.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        Vec::with_capacity(self.pixels() * 3)
    }

    /// Returns the decoded image, or an error if `data` is not `width * height * 3` bytes long.
    pub(crate) fn finish(self, format: Format, data: Vec<u8>) -> Result<RgbImage, DecodeError> {
        let Self { width, height, .. } = self;
        if data.is_empty() || data.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(DecodeError::corrupt(
                format,
                format_args!("{} bytes decoded for {width} x {height} pixels", data.len()),
            ));
        }
        Ok(RgbImage { width, height, data })
    }
}
