//! The way from tensors through the driver to a kernel, with a driver that runs it on the host (`tests/host/driver.cpp`).
#![expect(unsafe_code, reason = "opens a library that was compiled here")]

use std::{ffi::c_int, rc::Rc};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Device, Kind, Tensor};

use crate::{
    add_norm::NormKernels,
    error::KernelError,
    fit::Fit,
    foreign,
    source::{NormShape, Storage},
    stream::Stream,
};

#[path = "../../cuda_stream/tests/host/compile.rs"]
mod host;

/// What `driver.cpp` takes for machine code.
const CUBIN: &[u8] = b"\x7fELF";

enum Fault {
    None,
    RefusesToLaunch,
    ComputesSomethingElse,
}

/// Opens the driver under the name that the true one is looked for by first.
fn open_driver(shape: NormShape) -> impl Fn(Fault) {
    let folder = tempfile::tempdir().unwrap();
    let path = host::compile("driver.cpp", &shape.definitions(), "libcuda.so", folder.path());
    // SAFETY: the library was made of our own source just now; it does nothing when it is opened.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.unwrap();
    // SAFETY: the name and the type are those of driver.cpp.
    let fault = unsafe { *library.get::<unsafe extern "C" fn(c_int)>(b"pretend_fault").unwrap() };
    std::mem::forget(library);
    // SAFETY: takes a number.
    move |number| unsafe { fault(number as c_int) }
}

/// One test, since a process has one driver.
#[test]
fn what_is_launched_is_computed_and_a_kernel_that_fails_is_told_from_one_that_is_right() {
    let shape = NormShape::new(48, 1e-5, Storage::Half).unwrap();
    let pretend = open_driver(shape);
    let device = foreign::Device::open(0).unwrap();
    assert_eq!(device.architecture().unwrap(), "sm_90");
    let load = |cubin: &[u8]| {
        let fit = Fit { shape, device: Device::Cpu };
        NormKernels::load(fit, &device, Stream::Default, cubin).map(Rc::new)
    };
    let message = load(b"no machine code").unwrap_err().to_string();
    assert_eq!(message, "CUDA driver error: device kernel image is invalid");
    let unknown = device.load(CUBIN, [c"no_norm"]).map(drop).unwrap_err().to_string();
    assert_eq!(unknown, "CUDA driver error: named symbol not found");

    let kernels = load(CUBIN).unwrap();
    kernels.check().unwrap();
    pretend(Fault::ComputesSomethingElse);
    let error = kernels.check().unwrap_err();
    assert!(matches!(error, KernelError::Disagrees { kernel: "pre_norm", .. }), "{error}");
    pretend(Fault::RefusesToLaunch);
    assert_eq!(kernels.check().unwrap_err().to_string(), "CUDA driver error: unspecified launch failure");
    pretend(Fault::None);

    // Rows in any dimensions, and none.
    let tensor = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(Kind::Half);
    let norm = kernels.with(&tensor(&[48]), &tensor(&[48])).unwrap();
    for size in [&[2, 3, 48][..], &[5, 1, 48], &[48], &[0, 48]] {
        let (mut states, delta) = (tensor(size), tensor(size));
        let sum = &states + &delta;
        let of_sum = norm.norm_of_sum(states.detach_copy(), &delta).unwrap();
        let normed = norm.add_then_norm(&mut states, &delta).unwrap();
        assert_eq!(states, sum);
        assert_eq!((normed.size().as_slice(), &normed), (size, &of_sum));
    }
    assert!(norm.norm_of_sum(tensor(&[2, 40]), &tensor(&[2, 40])).is_err());
}
