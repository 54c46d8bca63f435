//! A safetensors file: its header, and the bytes of its tensors when they are needed.

use std::{borrow::Cow, io, ops::Range};

use safetensors::{Dtype, tensor::Metadata};
use tch::Kind;

use crate::{checkpoint::files::WeightFile, error::LoadError};

/// Size of the largest header, in bytes. The header of the largest BLIP has 120 KiB.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Size of the number before the header, which is the header's length.
const LENGTH_BYTES: u64 = 8;

/// A tensor in the header.
#[derive(Debug)]
pub(super) struct HeaderEntry {
    pub(super) name: String,
    pub(super) shape: Vec<i64>,
    pub(super) dtype: Dtype,
    /// Its bytes in the file.
    pub(super) range: Range<u64>,
}

/// Reads the header of the file `name`.
///
/// # Errors
/// [`LoadError`] if the header cannot be read or is invalid, or the file has another length than
/// the header states.
pub(super) fn read_header(file: &WeightFile, name: &str) -> Result<Vec<HeaderEntry>, LoadError> {
    let unread = |source: io::Error| LoadError::Read { file: name.to_owned(), source };
    let invalid = |reason: String| LoadError::invalid(name, reason);
    let length = file.length();
    if length < LENGTH_BYTES {
        return Err(invalid(format!("file has {length} bytes, expected at least {LENGTH_BYTES}")));
    }
    let start = file.read(0..LENGTH_BYTES).map_err(unread)?;
    let bytes = start.as_ref().try_into().map_or(u64::MAX, u64::from_le_bytes);
    if bytes > MAX_HEADER_BYTES {
        return Err(invalid(format!("header has {bytes} bytes, limit is {MAX_HEADER_BYTES}")));
    }
    let data = LENGTH_BYTES + bytes;
    if data > length {
        return Err(invalid(format!("header has {bytes} bytes, file only {length}")));
    }
    let header = file.read(LENGTH_BYTES..data).map_err(unread)?;
    // The library checks that tensors follow each other and have the size of their shape.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| invalid(format!("header: {error}")))?;
    let end = data + metadata.data_len() as u64;
    if end != length {
        return Err(invalid(format!("file has {length} bytes, header states {end}")));
    }
    let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (from, to) = info.data_offsets;
        let shape = info.shape.iter().map(|&size| size as i64).collect();
        HeaderEntry { name, shape, dtype: info.dtype, range: data + from as u64..data + to as u64 }
    };
    Ok(metadata.tensors().into_iter().map(entry).collect())
}

/// Reads bytes of a tensor.
///
/// # Errors
/// [`LoadError::Read`] if the file cannot be read or has changed.
pub(super) fn read_range<'f>(
    file: &'f WeightFile,
    name: &str,
    range: Range<u64>,
) -> Result<Cow<'f, [u8]>, LoadError> {
    file.read(range).map_err(|source| LoadError::Read { file: name.to_owned(), source })
}

/// Returns LibTorch's name of a number format that models are read in.
pub(super) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}
