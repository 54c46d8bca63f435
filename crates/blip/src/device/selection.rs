//! Which device a model runs on, and in which number format.
//!
//! One binary serves CPU and CUDA. The CUDA half of LibTorch is not linked: it is opened when CUDA is asked for,
//! before LibTorch's first call, from the folder of the `libtorch_cpu.so` that this process runs on.
#![expect(unsafe_code, reason = "opening a shared library is a foreign-function edge")]

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device};

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The device that the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceRequest {
    /// The first CUDA device if there is one, otherwise the CPU.
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

/// Why a device that was asked for by name is not to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// The CUDA half of LibTorch is missing or does not open.
    #[error("cuda was asked for: {0}")]
    NoCudaLibrary(String),
    /// LibTorch's CUDA half is there and finds no device.
    #[error("cuda was asked for, but libtorch finds no usable CUDA device (is the NVIDIA driver installed?)")]
    NoCudaDevice,
    /// The index is past the last device.
    #[error("device cuda:{index} was asked for, this machine has {count} CUDA device(s)")]
    NoSuchIndex {
        /// The index asked for.
        index: usize,
        /// CUDA devices that LibTorch finds.
        count: usize,
    },
}

/// A device that can be used, and why it was chosen.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// The device.
    pub device: Device,
    /// For the log: what `auto` chose and why, or that the device was asked for.
    pub reason: String,
}

/// Turns a request into a device; must come before any other use of LibTorch in this process.
///
/// # Errors
/// [`DeviceError`] if CUDA was asked for by name and is not to be had. `Auto` never fails.
pub fn open_device(request: DeviceRequest) -> Result<ChosenDevice, DeviceError> {
    let asked = |device| ChosenDevice { device, reason: "asked for".to_owned() };
    match request {
        DeviceRequest::Cpu => Ok(asked(Device::Cpu)),
        DeviceRequest::Cuda(index) => cuda_device(index).map(asked),
        DeviceRequest::Auto => Ok(match cuda_device(0) {
            Ok(device) => ChosenDevice { device, reason: "auto: a CUDA device is there".to_owned() },
            Err(error) => {
                ChosenDevice { device: Device::Cpu, reason: format!("auto: no CUDA device ({error})") }
            }
        }),
    }
}

fn cuda_device(index: usize) -> Result<Device, DeviceError> {
    open_cuda_library().map_err(DeviceError::NoCudaLibrary)?;
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
                    "{} has no {CUDA_LIBRARY}: this LibTorch is CPU-only (`make libtorch DEVICE=cuda` fetches the CUDA one)",
                    folder.display()
                ));
            }
            // SAFETY: the library is LibTorch's own other half; its initialisers register CUDA with the CPU half
            // that is loaded already. RTLD_GLOBAL, because its kernels are found by symbol from other libraries.
            let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
            let library = library.map_err(|error| format!("{} does not open: {error}", path.display()))?;
            // Kernels stay registered for the life of the process, so the library must too.
            std::mem::forget(library);
            Ok(())
        })
        .clone()
}

/// The folder of the `libtorch_cpu.so` that this process has loaded.
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
    fn devices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DeviceRequest>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceRequest::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert!(text.parse::<DeviceRequest>().unwrap_err().contains("expected auto, cpu"), "{text}");
        }
    }

    #[test]
    fn the_loaded_libtorch_is_found() {
        let _used = Tensor::zeros();
        assert!(libtorch_folder().unwrap().join("libtorch_cpu.so").exists());
    }

    /// Touches LibTorch, so that the linker keeps it in this test.
    struct Tensor;
    impl Tensor {
        fn zeros() -> tch::Tensor {
            tch::Tensor::zeros([1], (tch::Kind::Float, Device::Cpu))
        }
    }
}
