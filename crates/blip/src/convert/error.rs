//! Errors of converting a checkpoint.

use std::{io, path::PathBuf};

use safetensors::SafeTensorError;
use tch::TchError;

use crate::{dtype::Dtype, error::LoadError};

/// Name of the file with the converted weights.
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// Error of converting a checkpoint. The output is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The output exists and must not be replaced.
    #[error("output {} exists", .0.display())]
    Exists(PathBuf),
    /// The output may be replaced, but has files that do not belong to a converted checkpoint.
    #[error("output {} has a file that is not part of a converted model: {file}", folder.display())]
    UnknownFile {
        /// Folder of the output.
        folder: PathBuf,
        /// Name of the file.
        file: String,
    },
    /// Files have no such number format.
    #[error("dtype {0} is not a format of files, expected f32, f16 or bf16")]
    Dtype(Dtype),
    /// A tensor has values beyond the range of the number format.
    #[error("tensor {tensor} has values too large for {dtype}")]
    TooLarge {
        /// Name in the state dict.
        tensor: String,
        /// Number format of the output.
        dtype: Dtype,
    },
    /// The operating system cannot write a file or folder.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The safetensors library cannot write the weights.
    #[error("cannot write {WEIGHTS}: {0}")]
    Safetensors(#[from] SafeTensorError),
    /// The operating system cannot write the weights to disk.
    #[error("cannot write {WEIGHTS}: {0}")]
    Sync(#[from] io::Error),
    /// LibTorch failed, in most cases for lack of memory.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}
