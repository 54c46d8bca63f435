//! What can go wrong when a model is loaded and when it runs.

use std::path::PathBuf;

use tch::TchError;

use crate::dtype::Dtype;

/// Why a checkpoint could not be loaded. Each message names the file and what was expected of it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder itself is not there, or is not a folder.
    #[error("model folder {0} does not exist or is not a folder")]
    NoFolder(PathBuf),
    /// The file of weights is not there, or is not a file.
    #[error("model file {0} does not exist")]
    NoFile(PathBuf),
    /// A file of weights has not beside it what it does not hold itself.
    #[error("{} holds weights alone: {missing} must be beside it", file.display())]
    NothingBeside {
        /// The file.
        file: PathBuf,
        /// The names of what is missing.
        missing: String,
    },
    /// A file that every checkpoint needs is not there.
    #[error("model folder has no {0}")]
    MissingFile(&'static str),
    /// A file is there and cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file's name inside the model folder.
        file: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is not what its name promises.
    #[error("{file} is not valid: {reason}")]
    Invalid {
        /// The file's name inside the model folder.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the configuration calls for is not in the weights.
    #[error("weights have no tensor {name}, expected with shape {expected:?}")]
    MissingTensor {
        /// The state-dict name.
        name: String,
        /// The shape that `config.json` calls for.
        expected: Vec<i64>,
    },
    /// A tensor is there with another shape than the configuration calls for.
    #[error("tensor {name} has shape {found:?}, config.json calls for {expected:?}")]
    TensorShape {
        /// The state-dict name.
        name: String,
        /// The shape in the file.
        found: Vec<i64>,
        /// The shape that `config.json` calls for.
        expected: Vec<i64>,
    },
    /// An image size was asked for that the image encoder cannot cut into patches.
    #[error(
        "image size is {size}, expected a multiple of the checkpoint's patch size {patch}, up to {limit}"
    )]
    ImageSize {
        /// Height and width asked for, in pixels.
        size: u32,
        /// Height and width of a patch, in pixels.
        patch: i64,
        /// The largest size, in pixels.
        limit: u32,
    },
    /// 8-bit integers were asked for where there are no kernels for them.
    #[error("vision_dtype is int8, which takes a model in f32 on the cpu, not one in {dtype} on {device}")]
    Int8Unsupported {
        /// The model's device.
        device: String,
        /// The model's number format.
        dtype: Dtype,
    },
    /// This program's own kernels were asked for where there are none.
    #[error("cpu_kernels is native, which takes a model in f32 on the cpu, not one in {dtype} on {device}")]
    CpuKernelsUnsupported {
        /// The model's device.
        device: String,
        /// The model's number format.
        dtype: Dtype,
    },
    /// The machine has no more threads.
    #[error("cannot start threads to compute with: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// This program's own CUDA kernels were asked for where they cannot run.
    #[error(
        "cuda_kernels is native, which takes a model in f16 or f32 on cuda, not one in {dtype} on {device}"
    )]
    CudaKernelsUnsupported {
        /// The model's device.
        device: String,
        /// The model's number format.
        dtype: Dtype,
    },
    /// LibTorch refused, most often for lack of memory.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

impl LoadError {
    pub(crate) fn invalid(file: impl Into<String>, reason: impl ToString) -> Self {
        Self::Invalid { file: file.into(), reason: reason.to_string() }
    }
}

/// Why a batch could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The caller's batch breaks one of the model's limits.
    #[error("{0}")]
    BadBatch(String),
    /// The device has no memory left for this batch; a smaller one may fit.
    #[error("out of memory on {device}: {message}")]
    OutOfMemory {
        /// The device, as `cuda:0`.
        device: String,
        /// LibTorch's own words.
        message: String,
    },
    /// The device is lost for this process: after such an error every later call fails too.
    #[error("fatal device error: {0}")]
    Fatal(String),
    /// Any other error of LibTorch.
    #[error("libtorch: {0}")]
    Torch(String),
}

/// LibTorch reports every kind of failure as text; these are the words that tell them apart.
impl From<TchError> for ModelError {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().to_owned();
        if text.contains("out of memory") || text.contains("can't allocate memory") {
            let device = if text.contains("CUDA") { "cuda" } else { "cpu" };
            Self::OutOfMemory { device: device.to_owned(), message }
        } else if ["CUDA error", "CUBLAS_STATUS", "cuDNN error", "CUDA driver error"]
            .iter()
            .any(|word| text.contains(word))
        {
            Self::Fatal(message)
        } else {
            Self::Torch(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(text: &str) -> ModelError {
        TchError::Torch(text.to_owned()).into()
    }

    #[test]
    fn libtorch_words_tell_failures_apart() {
        assert!(matches!(
            classify("CUDA out of memory. Tried to allocate 20 MiB"),
            ModelError::OutOfMemory { .. }
        ));
        assert!(matches!(
            classify("DefaultCPUAllocator: can't allocate memory"),
            ModelError::OutOfMemory { .. }
        ));
        assert!(matches!(
            classify("CUDA error: an illegal memory access was encountered"),
            ModelError::Fatal(_)
        ));
        assert!(matches!(classify("mat1 and mat2 shapes cannot be multiplied"), ModelError::Torch(_)));
    }
}
