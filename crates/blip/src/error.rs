//! Errors of loading a model and of running a batch.

use std::path::PathBuf;

use tch::TchError;

use crate::dtype::{Dtype, PartDtype};

/// Error of loading a checkpoint. Each message names the file and what the loader expects of it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The model folder is missing or is not a folder.
    #[error("model folder {0} does not exist or is not a folder")]
    NoFolder(PathBuf),
    /// The weight file is missing or is not a file.
    #[error("model file {0} does not exist")]
    NoFile(PathBuf),
    /// The folder of a weight file lacks files that every checkpoint needs.
    #[error("model file {} is incomplete: missing {missing} in its folder", file.display())]
    IncompleteFolder {
        /// The weight file.
        file: PathBuf,
        /// Names of the missing files.
        missing: String,
    },
    /// A file that every checkpoint needs is missing.
    #[error("model folder has no {0}")]
    MissingFile(&'static str),
    /// A file exists but cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file's name inside the model folder.
        file: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A link leads out of the folder that clients may load models from.
    #[error("cannot read {file}: it leads out of the model folder")]
    Outside {
        /// The file's name inside the model folder.
        file: String,
    },
    /// The content of a file is not valid.
    #[error("{file} is not valid: {reason}")]
    Invalid {
        /// The file's name inside the model folder.
        file: String,
        /// What is wrong with the content.
        reason: String,
    },
    /// The weights have no tensor that the configuration requires.
    #[error("weights have no tensor {name}, expected shape {expected:?}")]
    MissingTensor {
        /// Name in the state dict.
        name: String,
        /// Shape that `config.json` requires.
        expected: Vec<i64>,
    },
    /// A tensor has a number format that no model reads.
    #[error("tensor {name} has number format {found}, expected F64, F32, F16 or BF16")]
    TensorFormat {
        /// Name in the state dict.
        name: String,
        /// Number format in the file.
        found: String,
    },
    /// A tensor has another shape than the configuration requires.
    #[error("tensor {name} has shape {found:?}, config.json requires {expected:?}")]
    TensorShape {
        /// Name in the state dict.
        name: String,
        /// Shape in the file.
        found: Vec<i64>,
        /// Shape that `config.json` requires.
        expected: Vec<i64>,
    },
    /// The vision encoder cannot divide images of the requested size into patches.
    #[error(
        "image size is {size}, expected a multiple of the checkpoint's patch size {patch}, up to {limit}"
    )]
    ImageSize {
        /// Requested height and width, in pixels.
        size: u32,
        /// Height and width of a patch, in pixels.
        patch: i64,
        /// The largest size, in pixels.
        limit: u32,
    },
    /// 8-bit integers are not available for a model on this device with these kernels.
    #[error(
        "dtype int8 is not available: model on {device} with cpu_kernels {kernels}, expected cpu with auto or native"
    )]
    Int8Unsupported {
        /// Device of the model.
        device: String,
        /// Kernels on the CPU.
        kernels: String,
    },
    /// The number format of a part is not available for a model like this.
    #[error(
        "{part}_dtype {format} is not available: model in {dtype} on {device} with cpu_kernels {kernels}, expected \
         f32, bf16 or int8 on cpu with auto or native"
    )]
    PartUnsupported {
        /// The part: vision or text.
        part: &'static str,
        /// Number format of the part.
        format: PartDtype,
        /// Device of the model.
        device: String,
        /// Number format of the model.
        dtype: Dtype,
        /// Kernels on the CPU.
        kernels: String,
    },
    /// The processor has no products in 8-bit integers.
    #[error("{option} int8 is not available: the processor lacks AVX2, expected auto or bf16")]
    NoIntegerProducts {
        /// The option: dtype, vision_dtype or text_dtype.
        option: &'static str,
    },
    /// The part or the model has no products in 8-bit floating point.
    #[error(
        "{part}_dtype fp8 is not available: model in {dtype} on {device}, expected vision_dtype of a \
         model in f16 on cuda"
    )]
    Fp8Unsupported {
        /// The part: vision or text.
        part: &'static str,
        /// Device of the model.
        device: String,
        /// Number format of the model.
        dtype: Dtype,
    },
    /// The device does not multiply matrices of the model in 8-bit floating point.
    #[error("vision_dtype fp8 is not available: {0}")]
    NoFp8Products(String),
    /// Native CPU kernels are not available for this device and number format.
    #[error("cpu_kernels native is not available: model in {dtype} on {device}, expected f32 on cpu")]
    CpuKernelsUnsupported {
        /// Device of the model.
        device: String,
        /// Number format of the model.
        dtype: Dtype,
    },
    /// The operating system cannot start the compute threads.
    #[error("cannot start compute threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Native CUDA kernels are not available for this device and number format.
    #[error(
        "cuda_kernels native is not available: model in {dtype} on {device}, expected f16 or f32 on cuda"
    )]
    CudaKernelsUnsupported {
        /// Device of the model.
        device: String,
        /// Number format of the model.
        dtype: Dtype,
    },
    /// This form of GELU is not available on this device.
    #[error("cuda_gelu tanh is not available: model on {device}, expected cuda")]
    CudaGeluUnsupported {
        /// Device of the model.
        device: String,
    },
    /// The device is lost.
    #[error("cannot prepare the model: {0}")]
    Device(String),
    /// LibTorch failed, in most cases for lack of memory.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

impl LoadError {
    pub(crate) fn invalid(file: impl Into<String>, reason: impl ToString) -> Self {
        Self::Invalid { file: file.into(), reason: reason.to_string() }
    }
}

/// Error of running a batch.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The batch exceeds a limit of the model.
    #[error("{0}")]
    BadBatch(String),
    /// The device has not enough memory for this batch. A smaller batch may fit.
    #[error("out of memory on {device}: {message}")]
    OutOfMemory {
        /// Kind of the device: `cuda` or `cpu`.
        device: String,
        /// First line of LibTorch's message.
        message: String,
    },
    /// The device is lost for this process. Every later call fails, too.
    #[error("fatal device error: {0}")]
    Fatal(String),
    /// Any other error of LibTorch.
    #[error("libtorch: {0}")]
    Torch(String),
}

/// Classifies an error of LibTorch by words of its message, because LibTorch has no error codes.
impl From<TchError> for ModelError {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().to_owned();
        let contains_any = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if contains_any(&["out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED"]) {
            let device = if contains_any(&["CUDA", "CUBLAS", "CUDNN"]) { "cuda" } else { "cpu" };
            Self::OutOfMemory { device: device.to_owned(), message }
        } else if contains_any(&["STATUS_NOT_SUPPORTED", "CUDNN_STATUS_NOT_INITIALIZED"]) {
            // The library has no kernel, or did not start. The device is intact.
            Self::Torch(message)
        } else if contains_any(&["CUDA error", "CUBLAS_STATUS", "cuDNN error", "CUDA driver error"]) {
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
    fn libtorch_error_is_classified_by_its_words() {
        assert!(matches!(
            classify("CUDA out of memory. Tried to allocate 20 MiB"),
            ModelError::OutOfMemory { .. }
        ));
        assert!(matches!(
            classify("DefaultCPUAllocator: can't allocate memory"),
            ModelError::OutOfMemory { .. }
        ));
        assert!(matches!(
            classify("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            ModelError::OutOfMemory { .. }
        ));
        assert!(matches!(classify("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), ModelError::OutOfMemory { .. }));
        for text in [
            "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`",
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
            "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        ] {
            assert!(matches!(classify(text), ModelError::Torch(_)), "{text}");
        }
        assert!(matches!(
            classify("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
            ModelError::Fatal(_)
        ));
        assert!(matches!(
            classify("CUDA error: an illegal memory access was encountered"),
            ModelError::Fatal(_)
        ));
        assert!(matches!(classify("mat1 and mat2 shapes cannot be multiplied"), ModelError::Torch(_)));
    }
}
