//! Checkpoints of `torch.save`: a zip archive with a pickle that describes the tensors, and their
//! bytes.
//!
//! A pickle is a program. `pytorch-reader` parses it as data and never runs it. It recognizes the
//! calls that build tensors by their names, and skips every other call. This module limits the
//! memory that a small file can request, because the library has no such limit.

use std::{
    io::{self, BufReader, Read as _},
    path::Path,
};

use pytorch_reader::{DType, PytorchReader, Tensor};
use tch::Kind;
use zip::ZipArchive;

use crate::error::LoadError;

/// First bytes of a zip archive.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// Size of the largest pickle that is parsed, in bytes. The pickle of the largest BLIP, with
/// momentum copies and optimizer state, has less than 1 MiB. Parsing takes about a hundred times as
/// much memory.
const MAX_PICKLE_BYTES: u64 = 8 << 20;

/// Returns the tensors of the file at `path`, without their bytes. Errors name the file `file`.
///
/// # Errors
/// [`LoadError`] if the file cannot be read, has another format, or is inconsistent.
pub(super) fn open(path: &Path, file: &str) -> Result<Vec<Tensor>, LoadError> {
    let bytes = check_archive(path, file)?;
    let reader = PytorchReader::new(path).map_err(|error| LoadError::invalid(file, error))?;
    let tensors: Vec<Tensor> = reader.into_tensors().into_values().collect();
    // A tensor can be a view that repeats a few bytes any number of times.
    match tensors.iter().find(|tensor| tensor.byte_len() as u64 > bytes) {
        Some(tensor) => {
            let (name, claimed) = (&tensor.name, tensor.byte_len());
            Err(LoadError::invalid(
                file,
                format!("tensor {name} has {claimed} bytes, expected at most the file size {bytes}"),
            ))
        }
        None => Ok(tensors),
    }
}

/// Checks the directory of the archive, and returns the file size in bytes.
fn check_archive(path: &Path, file: &str) -> Result<u64, LoadError> {
    let unread = |source: io::Error| LoadError::Read { file: file.to_owned(), source };
    let mut opened = regular_file::open(path).map_err(unread)?;
    let bytes = opened.metadata().map_err(unread)?.len();
    let mut start = [0; ZIP.len()];
    let is_zip = match opened.read_exact(&mut start) {
        Ok(()) => start == ZIP,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(unread(error)),
    };
    if !is_zip {
        let reason = "not a zip archive, the format of torch.save since torch 1.6 \
        (load an older file with torch.load and save it again)";
        return Err(LoadError::invalid(file, reason));
    }
    let invalid = |error| LoadError::invalid(file, error);
    let mut archive = ZipArchive::new(BufReader::new(opened)).map_err(invalid)?;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(invalid)?;
        if entry.name().map_err(invalid)?.ends_with(".pkl") && entry.size() > MAX_PICKLE_BYTES {
            let size = entry.size();
            let reason = format!("pickle has {size} bytes, limit is {MAX_PICKLE_BYTES}");
            return Err(LoadError::invalid(file, reason));
        }
    }
    Ok(bytes)
}

/// Returns LibTorch's name of a floating-point format. `None` for integers, which no model reads.
pub(super) fn kind_of(dtype: DType) -> Option<Kind> {
    match dtype {
        DType::F64 => Some(Kind::Double),
        DType::F32 => Some(Kind::Float),
        DType::F16 => Some(Kind::Half),
        DType::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}
