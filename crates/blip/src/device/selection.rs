//! Selection of the device that a model runs on.
//!
//! One binary serves CPU and CUDA. It does not link the CUDA library of LibTorch. When a request
//! can use CUDA, this module opens the library before LibTorch's first call. The library is in the
//! folder of the `libtorch_cpu.so` that this process has loaded.
#![expect(unsafe_code, reason = "opening a shared library is a foreign-function edge")]

use std::{
    error::Error as _,
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::OnceLock,
};

use cuda::CudaStreams;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device};

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// Requested device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceRequest {
    /// The first CUDA device if one is available, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its index.
    Cuda(usize),
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(index)) => Ok(Self::Cuda(index)),
                _ => Err(format!("unknown device {text:?}, expected auto, cpu, cuda or cuda:N")),
            },
        }
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

/// Error of opening a requested CUDA device.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// The CUDA library of LibTorch is missing or cannot be opened.
    #[error("cannot use cuda: {0}")]
    NoCudaLibrary(String),
    /// The CUDA library finds no device.
    #[error("cannot use cuda: libtorch finds no usable CUDA device (is the NVIDIA driver installed?)")]
    NoCudaDevice,
    /// The index exceeds the number of devices.
    #[error("cannot use device cuda:{index}: this machine has {count} CUDA device(s)")]
    NoSuchIndex {
        /// Requested index.
        index: usize,
        /// Number of CUDA devices that LibTorch finds.
        count: usize,
    },
}

/// A usable device with the reason for its choice.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// The device.
    pub device: Device,
    /// Reason for the log: the choice of `auto` with its cause, or that the device was requested.
    pub reason: String,
}

/// Opens the requested device. The process must not use LibTorch before.
///
/// # Errors
/// [`DeviceError`] if a requested CUDA device is not available. `Auto` never fails.
pub fn open_device(request: DeviceRequest) -> Result<ChosenDevice, DeviceError> {
    let requested = |device| ChosenDevice { device, reason: "requested".to_owned() };
    match request {
        DeviceRequest::Cpu => Ok(requested(Device::Cpu)),
        DeviceRequest::Cuda(index) => cuda_device(index).map(requested),
        DeviceRequest::Auto => Ok(match cuda_device(0) {
            Ok(device) => ChosenDevice { device, reason: "auto: CUDA device found".to_owned() },
            Err(error) => {
                ChosenDevice { device: Device::Cpu, reason: format!("auto: no CUDA device ({error})") }
            }
        }),
    }
}

fn cuda_device(index: usize) -> Result<Device, DeviceError> {
    open_cuda_library().map_err(DeviceError::NoCudaLibrary)?;
    exclude_cudnn_attention();
    let count = if Cuda::is_available() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 };
    match count {
        0 => Err(DeviceError::NoCudaDevice),
        count if index >= count => Err(DeviceError::NoSuchIndex { index, count }),
        _ => Ok(Device::Cuda(index)),
    }
}

fn open_cuda_library() -> Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED
        .get_or_init(|| {
            let folder = libtorch_folder().ok_or("libtorch_cpu.so is not loaded in this process")?;
            let path = folder.join(CUDA_LIBRARY);
            if !path.exists() {
                return Err(format!(
                    "{} has no {CUDA_LIBRARY}: this LibTorch is for the CPU only \
                     (install the same torch from PyPI, or run `make libtorch DEVICE=cuda` in a \
                     checkout)",
                    folder.display()
                ));
            }
            // SAFETY: the library belongs to the loaded `libtorch_cpu.so`. Its initializers
            // register CUDA with that library. Other libraries find its kernels by symbol, which
            // needs RTLD_GLOBAL.
            let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
            let library = library.map_err(|error| {
                // The error itself names only the function that failed.
                let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                format!("cannot open {}: {reason}", path.display())
            })?;
            // Kernels stay registered until the process ends, so the library stays open, too.
            std::mem::forget(library);
            Ok(())
        })
        .clone()
}

/// Removes cuDNN from LibTorch's choice of attention kernels. It would compile a kernel for each
/// new batch shape. The vision encoder calls cuDNN itself.
fn exclude_cudnn_attention() {
    let excluded = CudaStreams::open().and_then(CudaStreams::exclude_cudnn_attention);
    if let Err(error) = excluded {
        tracing::warn!(%error, "cuDNN attention not excluded; the first batch of each shape is slow");
    }
}

/// Returns the folder of the `libtorch_cpu.so` that this process has loaded.
fn libtorch_folder() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = line.get(line.find('/')?..)?;
    Path::new(path).parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_request_parses_from_its_display_form() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DeviceRequest>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceRequest::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert!(text.parse::<DeviceRequest>().unwrap_err().contains("expected auto, cpu"), "{text}");
        }
    }

    #[test]
    fn loaded_libtorch_is_found() {
        let _used = Tensor::zeros();
        assert!(libtorch_folder().unwrap().join("libtorch_cpu.so").exists());
    }

    /// Uses LibTorch, so that the linker includes it in this test.
    struct Tensor;
    impl Tensor {
        fn zeros() -> tch::Tensor {
            tch::Tensor::zeros([1], (tch::Kind::Float, Device::Cpu))
        }
    }
}
