//! Checkpoints that `torch.save` wrote: a zip archive with a pickle that says what the tensors are, and their bytes.
//!
//! A pickle is a program. It is read as data here, by `pytorch-reader`: a call that it asks for is not made but
//! recognised by its name, if it is one of those that put tensors together, or else passed over. What the library leaves
//! to its callers, how much memory a small file may make it take, is limited here.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use pytorch_reader::{DType, PytorchReader, Tensor};
use tch::Kind;
use zip::ZipArchive;

use crate::error::LoadError;

/// How a zip archive begins.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// The longest pickle that is read, in bytes. That of the largest BLIP, momentum copies and an optimizer's state
/// included, has less than 1 MiB; read, it takes some hundred times as much memory.
const MAX_PICKLE_BYTES: u64 = 8 << 20;

/// The tensors of the file at `path`, their bytes still in it; errors call it `file`.
///
/// # Errors
/// [`LoadError`] if the file cannot be read, is of another format, or says what does not fit together.
pub(super) fn open(path: &Path, file: &str) -> Result<Vec<Tensor>, LoadError> {
    let bytes = check_archive(path, file)?;
    let reader = PytorchReader::new(path).map_err(|error| LoadError::invalid(file, error))?;
    let tensors: Vec<Tensor> = reader.into_tensors().into_values().collect();
    // A tensor may be a view that repeats a few bytes without end.
    match tensors.iter().find(|tensor| tensor.byte_len() as u64 > bytes) {
        Some(tensor) => {
            let (name, claimed) = (&tensor.name, tensor.byte_len());
            Err(LoadError::invalid(file, format!("tensor {name} has {claimed} bytes, the file has {bytes}")))
        }
        None => Ok(tensors),
    }
}

/// Looks at the archive's directory alone, and returns the file's size in bytes.
fn check_archive(path: &Path, file: &str) -> Result<u64, LoadError> {
    let unread = |source: io::Error| LoadError::Read { file: file.to_owned(), source };
    let mut opened = File::open(path).map_err(unread)?;
    let bytes = opened.metadata().map_err(unread)?.len();
    let mut start = [0; ZIP.len()];
    let is_zip = match opened.read_exact(&mut start) {
        Ok(()) => start == ZIP,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(unread(error)),
    };
    if !is_zip {
        let reason = "it is no zip archive, as torch.save has written them since torch 1.6; if torch.load reads it, \
                      torch.save it again";
        return Err(LoadError::invalid(file, reason));
    }
    let invalid = |error| LoadError::invalid(file, error);
    let mut archive = ZipArchive::new(BufReader::new(opened)).map_err(invalid)?;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(invalid)?;
        if entry.name().map_err(invalid)?.ends_with(".pkl") && entry.size() > MAX_PICKLE_BYTES {
            let size = entry.size();
            let reason = format!("its pickle has {size} bytes, limit is {MAX_PICKLE_BYTES}");
            return Err(LoadError::invalid(file, reason));
        }
    }
    Ok(bytes)
}

/// LibTorch's name for a format of floating-point numbers; buffers of integers are nothing that a model reads.
pub(super) fn kind_of(dtype: DType) -> Option<Kind> {
    match dtype {
        DType::F64 => Some(Kind::Double),
        DType::F32 => Some(Kind::Float),
        DType::F16 => Some(Kind::Half),
        DType::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}
