//! Errors of converting a checkpoint.

use std::{io, path::PathBuf};

use safetensors::SafeTensorError;
use tch::TchError;

use crate::{dtype::Dtype, error::LoadError};

/// The file that holds the converted weights.
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// Why a checkpoint was not converted; the output is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The checkpoint itself cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The output is there already, and may not be replaced.
    #[error("output {} exists", .0.display())]
    Exists(PathBuf),
    /// The output may be replaced, but is more than a converted checkpoint.
    #[error("output {} has {file}, which is no file of a converted model", folder.display())]
    Foreign {
        /// The output.
        folder: PathBuf,
        /// What would be lost.
        file: String,
    },
    /// Numbers of the tensor are beyond the largest of the format.
    #[error("tensor {tensor} has numbers too large for {dtype}")]
    TooLarge {
        /// The state-dict name.
        tensor: String,
        /// The format.
        dtype: Dtype,
    },
    /// The operating system refused.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The weights cannot be written.
    #[error("cannot write {WEIGHTS}: {0}")]
    Safetensors(#[from] SafeTensorError),
    /// The same, in the operating system's words.
    #[error("cannot write {WEIGHTS}: {0}")]
    Sync(#[from] io::Error),
    /// LibTorch refused, most often for lack of memory.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}
