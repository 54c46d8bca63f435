//! libjpeg's decompressor behind safe functions. This file has all foreign calls of the crate.
//!
//! libjpeg itself counts the scans as it reads them, so that no other reading of the markers is
//! needed. Its fatal errors unwind through its C frames, without the panic hook.

#![expect(unsafe_code, reason = "calls of the foreign functions of libjpeg")]

use std::{
    ffi::{c_int, c_long},
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr, slice,
};

use mozjpeg_sys::{
    J_COLOR_SPACE, jpeg_common_struct, jpeg_component_info, jpeg_create_decompress, jpeg_decompress_struct,
    jpeg_destroy_decompress, jpeg_error_mgr, jpeg_finish_decompress, jpeg_has_multiple_scans,
    jpeg_progress_mgr, jpeg_read_header, jpeg_read_scanlines, jpeg_resync_to_restart, jpeg_source_mgr,
    jpeg_start_decompress, jpeg_std_error,
};

/// The reason why libjpeg stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The file ends before the image.
    Truncated,
    /// The file has more scans than allowed.
    TooManyScans,
    /// The message of libjpeg.
    Invalid(String),
}

/// The colours of decoded samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputColor {
    /// Red, green and blue, by the colour space that the markers declare.
    Rgb,
    /// Cyan, magenta, yellow and key, by the colour space that the markers declare.
    Cmyk,
    /// Red, green and blue. The stored samples are YCbCr, whatever the markers declare.
    RgbOfYcbcr,
    /// The stored samples, whatever the markers declare.
    Stored,
}

/// A decompressor that has read the header of its file.
pub(crate) struct Decompressor<'a> {
    state: *mut State,
    file: PhantomData<&'a [u8]>,
}

/// What libjpeg points to. The address of the allocation never changes.
struct State {
    info: jpeg_decompress_struct,
    errors: jpeg_error_mgr,
    source: jpeg_source_mgr,
    progress: ScanLimit,
}

/// libjpeg passes the progress manager to [`check_scans`].
#[repr(C)]
struct ScanLimit {
    progress: jpeg_progress_mgr,
    max_scans: c_int,
}

impl<'a> Decompressor<'a> {
    /// Reads the header of `file`, which may use the tables of the abbreviated file `tables`.
    pub(crate) fn open(tables: Option<&'a [u8]>, file: &'a [u8], max_scans: u16) -> Result<Self, Failure> {
        // SAFETY: these C structures of numbers, null pointers and absent functions are valid.
        let mut state: Box<State> = Box::new(unsafe { mem::zeroed() });
        state.source = source(file);
        state.progress.progress.progress_monitor = Some(check_scans);
        state.progress.max_scans = max_scans.into();
        let state = Box::into_raw(state);
        let new = Self { state, file: PhantomData };
        caught(|| {
            // SAFETY: `state` is a valid allocation, which only `new` and libjpeg refer to. The
            // structure is created before another function reads it.
            unsafe {
                jpeg_std_error(&mut (*state).errors);
                (*state).errors.error_exit = Some(fail);
                (*state).errors.emit_message = Some(ignore_warning);
                (*state).info.common.err = &raw mut (*state).errors;
                jpeg_create_decompress(&raw mut (*state).info);
                (*state).info.common.progress = (&raw mut (*state).progress).cast();
                (*state).info.src = &raw mut (*state).source;
                if let Some(tables) = tables {
                    (*state).source = source(tables);
                    jpeg_read_header(&mut (*state).info, 0);
                    (*state).source = source(file);
                }
                jpeg_read_header(&mut (*state).info, 1);
            }
        })?;
        Ok(new)
    }

    /// Returns width and height, in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.info().image_width, self.info().image_height)
    }

    /// Returns the number of samples of a pixel.
    pub(crate) fn components(&self) -> usize {
        self.component_info().len()
    }

    /// Whether the markers declare CMYK, or YCCK, which libjpeg converts to CMYK.
    pub(crate) fn is_cmyk(&self) -> bool {
        matches!(self.info().jpeg_color_space, J_COLOR_SPACE::JCS_CMYK | J_COLOR_SPACE::JCS_YCCK)
    }

    /// Whether libjpeg stores all coefficients before it decodes the first row.
    pub(crate) fn has_multiple_scans(&self) -> bool {
        // SAFETY: libjpeg only reads the structure.
        unsafe { jpeg_has_multiple_scans(self.info()) != 0 }
    }

    /// Returns the memory that libjpeg allocates for this file, in bytes.
    pub(crate) fn working_bytes(&self) -> u64 {
        /// An upper bound of the rows that libjpeg buffers for each component.
        const BUFFERED_ROWS: u64 = 64;
        /// 64 coefficients of 16 bits.
        const BLOCK_BYTES: u64 = 128;
        let rows = BUFFERED_ROWS * u64::from(self.size().0.next_multiple_of(32)) * self.components() as u64;
        if !self.has_multiple_scans() {
            return rows;
        }
        let padded = |blocks: u32, factor: c_int| {
            u64::from(blocks.next_multiple_of(u32::try_from(factor).unwrap_or(1).max(1)))
        };
        let blocks = self.component_info().iter().map(|component| {
            padded(component.width_in_blocks, component.h_samp_factor)
                * padded(component.height_in_blocks, component.v_samp_factor)
        });
        blocks.sum::<u64>() * BLOCK_BYTES + rows
    }

    /// Decodes all rows to `out`, and the rest of the file up to its end marker if `to_end` is set.
    pub(crate) fn read(self, color: OutputColor, to_end: bool, out: &mut [u8]) -> Result<(), Failure> {
        let state = self.state;
        caught(|| {
            // SAFETY: the header was read. Each row of `out` has room for one row of samples.
            unsafe {
                let info = &raw mut (*state).info;
                set_color(&mut *info, color);
                jpeg_start_decompress(&mut *info);
                let row_bytes = (*info).output_width as usize * (*info).output_components as usize;
                if row_bytes == 0 || out.len() != row_bytes * (*info).output_height as usize {
                    resume_unwind(Box::new(Failure::Invalid("another size than its header".to_owned())));
                }
                for row in out.chunks_exact_mut(row_bytes) {
                    let mut start = row.as_mut_ptr();
                    jpeg_read_scanlines(&mut *info, &mut start, 1);
                }
                if to_end {
                    jpeg_finish_decompress(&mut *info);
                }
            }
        })
    }

    fn info(&self) -> &jpeg_decompress_struct {
        // SAFETY: `state` is valid until the drop. libjpeg changes it only during calls.
        unsafe { &(*self.state).info }
    }

    fn component_info(&self) -> &[jpeg_component_info] {
        let info = self.info();
        if info.comp_info.is_null() {
            return &[];
        }
        // SAFETY: after the header, `comp_info` points to `num_components` structures.
        unsafe { slice::from_raw_parts(info.comp_info, info.num_components.try_into().unwrap_or(0)) }
    }
}

impl Drop for Decompressor<'_> {
    fn drop(&mut self) {
        // SAFETY: `state` came from `Box::into_raw`. Destroying is allowed in every state of
        // libjpeg, a zeroed structure included.
        unsafe {
            jpeg_destroy_decompress(&mut (*self.state).info);
            drop(Box::from_raw(self.state));
        }
    }
}

fn set_color(info: &mut jpeg_decompress_struct, color: OutputColor) {
    match color {
        OutputColor::Rgb => info.out_color_space = J_COLOR_SPACE::JCS_RGB,
        OutputColor::Cmyk => info.out_color_space = J_COLOR_SPACE::JCS_CMYK,
        OutputColor::RgbOfYcbcr => {
            info.jpeg_color_space = J_COLOR_SPACE::JCS_YCbCr;
            info.out_color_space = J_COLOR_SPACE::JCS_RGB;
        }
        OutputColor::Stored => {
            info.jpeg_color_space = J_COLOR_SPACE::JCS_UNKNOWN;
            info.out_color_space = J_COLOR_SPACE::JCS_UNKNOWN;
        }
    }
}

/// Runs calls of libjpeg and returns the failure with which they unwind.
fn caught(calls: impl FnOnce()) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(calls)).map_err(|payload| match payload.downcast::<Failure>() {
        Ok(failure) => *failure,
        Err(_) => Failure::Invalid("invalid data".to_owned()),
    })
}

/// Returns a source that reads `bytes` and fails at their end.
///
/// libjpeg's own sources insert an end marker instead, and missing pixels become grey.
fn source(bytes: &[u8]) -> jpeg_source_mgr {
    jpeg_source_mgr {
        next_input_byte: bytes.as_ptr(),
        bytes_in_buffer: bytes.len(),
        init_source: Some(ignore),
        fill_input_buffer: Some(fail_at_end),
        skip_input_data: Some(skip),
        resync_to_restart: Some(jpeg_resync_to_restart),
        term_source: Some(ignore),
    }
}

unsafe extern "C-unwind" fn ignore(_: &mut jpeg_decompress_struct) {}

unsafe extern "C-unwind" fn ignore_warning(_: &mut jpeg_common_struct, _: c_int) {}

unsafe extern "C-unwind" fn fail_at_end(_: &mut jpeg_decompress_struct) -> c_int {
    resume_unwind(Box::new(Failure::Truncated));
}

unsafe extern "C-unwind" fn skip(info: &mut jpeg_decompress_struct, bytes: c_long) {
    let Ok(bytes) = usize::try_from(bytes) else { return };
    // SAFETY: `src` points to the source of `State`. The new position is within the same bytes.
    unsafe {
        let source = &mut *info.src;
        if bytes > source.bytes_in_buffer {
            resume_unwind(Box::new(Failure::Truncated));
        }
        source.next_input_byte = source.next_input_byte.add(bytes);
        source.bytes_in_buffer -= bytes;
    }
}

/// Fails if libjpeg has begun more scans than allowed. libjpeg calls it for every row of blocks.
unsafe extern "C-unwind" fn check_scans(common: &mut jpeg_common_struct) {
    // SAFETY: the common part begins a `jpeg_decompress_struct`, whose progress manager begins a
    // `ScanLimit`.
    let (scans, limit) = unsafe {
        let info = ptr::from_mut(common).cast::<jpeg_decompress_struct>();
        ((*info).input_scan_number, (*common.progress.cast::<ScanLimit>()).max_scans)
    };
    if scans > limit {
        resume_unwind(Box::new(Failure::TooManyScans));
    }
}

unsafe extern "C-unwind" fn fail(common: &mut jpeg_common_struct) {
    /// `JMSG_LENGTH_MAX` of libjpeg.
    const MESSAGE_BYTES: usize = 200;
    type Format = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, *mut u8);
    let mut message = [0u8; MESSAGE_BYTES];
    // SAFETY: `err` points to the error manager of `State`. The C function writes a string of at
    // most `JMSG_LENGTH_MAX` bytes to a pointer, which the bindings declare as a shared reference.
    unsafe {
        if let Some(format) = (*common.err).format_message {
            let format: Format = mem::transmute(format);
            format(common, message.as_mut_ptr());
        }
    }
    let text = message.split(|&byte| byte == 0).next().unwrap_or_default();
    resume_unwind(Box::new(Failure::Invalid(String::from_utf8_lossy(text).into_owned())));
}
