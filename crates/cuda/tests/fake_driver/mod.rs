//! A fake of the libraries that the crate opens on a machine with a GPU.
//!
//! - `libtorch_cuda.cpp`: the part of LibTorch's CUDA library that `src/ffi` calls.
//! - `driver.cpp`: the part of the NVIDIA driver that cudarc calls. It runs kernels on the host.
//! - `nvrtc.cpp`: the part of the CUDA compiler that cudarc calls.
//! - `add_norm.cpp`, `choose.cpp`, `quantize.cpp`, `gpu.h`: the kernels, and the part of a GPU that
//!   they use.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use cuda::{ChoiceKernel, CudaStreams, Fp8Kernels, NormShape, Storage};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

/// The fake libraries, for one test at a time.
pub(crate) struct FakeDriver {
    libraries: &'static Libraries,
    pub(crate) streams: CudaStreams,
    _lock: MutexGuard<'static, ()>,
}

struct Libraries {
    libtorch: Library,
    driver: Library,
    _nvrtc: Library,
}

impl FakeDriver {
    /// Compiles and opens the libraries once. Each test begins in the same state.
    pub(crate) fn open() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        static LIBRARIES: OnceLock<Libraries> = OnceLock::new();
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let libraries = LIBRARIES.get_or_init(|| {
            // The embedded library does not open before LibTorch's CUDA library. The failure has
            // no effect on later calls. The tensor makes the program link to LibTorch.
            assert!(CudaStreams::open().is_err());
            assert_eq!(tch::Tensor::from(1).int64_value(&[]), 1);
            let include = ["-isystem".to_owned(), format!("{}/../include", env!("LIBTORCH_LIB"))];
            Libraries {
                libtorch: open("libtorch_cuda.cpp", &include, "libtorch_cuda.so", RTLD_GLOBAL),
                // cudarc finds an open library by its name.
                driver: open("driver.cpp", &[], "libcuda.so", RTLD_LOCAL),
                _nvrtc: open("nvrtc.cpp", &[], "libnvrtc.so", RTLD_LOCAL),
            }
        });
        let fake = Self { libraries, streams: CudaStreams::open().unwrap(), _lock: lock };
        fake.fail("");
        read::<()>(&libraries.libtorch, "fake_reset");
        fake
    }

    /// Lets all calls of one kind fail, or none if `call` is empty.
    pub(crate) fn fail(&self, call: &str) {
        let call = CString::new(call).unwrap();
        for library in [&self.libraries.libtorch, &self.libraries.driver] {
            send::<*const c_char>(library, "fake_fail", call.as_ptr());
        }
    }

    /// Appends `line` to the log.
    pub(crate) fn log(&self, line: &str) {
        let line = CString::new(line).unwrap();
        send::<*const c_char>(&self.libraries.libtorch, "fake_log", line.as_ptr());
    }

    /// Returns the calls since the last time.
    pub(crate) fn take_log(&self) -> Vec<String> {
        // SAFETY: the string lives until the next call.
        let log = unsafe { CStr::from_ptr(read(&self.libraries.libtorch, "fake_take_log")) };
        log.to_str().unwrap().lines().map(str::to_owned).collect()
    }

    /// Advances the clock of the devices.
    pub(crate) fn advance_clock(&self, milliseconds: f64) {
        send(&self.libraries.libtorch, "fake_advance_clock", milliseconds);
    }

    /// Registers a CUDA allocator, started or not.
    pub(crate) fn register_allocator(&self, started: bool) {
        send(&self.libraries.libtorch, "fake_register_allocator", started);
    }

    pub(crate) fn current_device(&self) -> c_int {
        read(&self.libraries.libtorch, "fake_current_device")
    }

    pub(crate) fn current_stream(&self, device: usize) -> usize {
        self.streams.current_stream(device).unwrap().addr()
    }

    /// Returns the stream of the last launch of a kernel by the driver.
    pub(crate) fn last_kernel_stream(&self) -> usize {
        read::<*mut c_void>(&self.libraries.driver, "fake_last_stream").addr()
    }
}

impl Drop for FakeDriver {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let live: c_int = read(&self.libraries.libtorch, "fake_live_objects");
            assert_eq!(live, 0, "the crate frees all objects");
        }
    }
}

/// Compiles the norm kernels of `shape` for the host.
pub(crate) fn compile_norms(shape: NormShape) -> Vec<u8> {
    compile("add_norm.cpp", &shape.definitions())
}

/// Compiles the kernel that chooses tokens for the host.
pub(crate) fn compile_choice(storage: Storage) -> Vec<u8> {
    compile("choose.cpp", &ChoiceKernel::definitions(storage))
}

/// Compiles the kernels that round to FP8 for the host.
pub(crate) fn compile_fp8() -> Vec<u8> {
    compile("quantize.cpp", &Fp8Kernels::definitions())
}

/// Compiles kernels for the host, to what the driver accepts as a cubin.
fn compile(source: &str, options: &[String]) -> Vec<u8> {
    let library = open(source, options, "kernels.so", RTLD_LOCAL);
    [b"\x7fELF".as_slice(), &library.into_raw().addr().to_ne_bytes()].concat()
}

fn send<A>(library: &Library, function: &str, argument: A) {
    // SAFETY: the callers pass the argument type of the C++ function.
    unsafe { library.get::<unsafe extern "C" fn(A)>(function.as_bytes()).unwrap()(argument) }
}

fn read<R>(library: &Library, function: &str) -> R {
    // SAFETY: the callers expect the result type of the C++ function.
    unsafe { library.get::<unsafe extern "C" fn() -> R>(function.as_bytes()).unwrap()() }
}

/// Compiles `source` of this folder to a shared library with this `soname`, and opens it.
fn open(source: &str, options: &[String], soname: &str, flags: c_int) -> Library {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join(soname);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_driver").join(source);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let compiler = cc::Build::new()
        .cpp(true)
        .std("c++20")
        .pic(true)
        .opt_level(1)
        .debug(false)
        .warnings(false)
        .cargo_metadata(false)
        .target(&target)
        .host(&target)
        .out_dir(folder.path())
        .get_compiler();
    let mut command = compiler.to_command();
    command.args(options).args(["-shared", "-pthread", "-w"]).arg(format!("-Wl,-soname,{soname}"));
    let status = command.arg(&source).arg("-o").arg(&library).status().unwrap();
    assert!(status.success(), "{} does not compile", source.display());
    // SAFETY: the initialisers of the fake only register devices that do nothing.
    unsafe { Library::open(Some(library), RTLD_NOW | flags) }.unwrap()
}
