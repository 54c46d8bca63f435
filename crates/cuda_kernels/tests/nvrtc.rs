//! The kernels through CUDA's own compiler, which needs no GPU.
#![expect(unsafe_code, reason = "opens a library")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use std::path::PathBuf;

use cuda_kernels::{KernelError, NormShape, Storage, compile};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// Opens NVRTC as the program finds it beside LibTorch: by its place, with nothing on the path of libraries.
fn open_nvrtc() {
    let folder = std::env::var("NVRTC_FOLDER").expect("NVRTC_FOLDER is set by `make test-rust`");
    let library = PathBuf::from(folder).join("libnvrtc.so.13");
    // SAFETY: NVIDIA's own compiler.
    let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) };
    std::mem::forget(opened.unwrap());
}

#[test]
#[ignore = "needs NVRTC: `make test-rust` fetches it and runs this"]
fn nvrtc_makes_machine_code_of_every_kernel() {
    open_nvrtc();
    for architecture in ["sm_80", "sm_89", "sm_90", "sm_100"] {
        for storage in [Storage::Half, Storage::Float] {
            for (width, eps) in
                [(40, 1e-5), (256, 1e-5), (768, 1e-5), (768, 1e-12), (1024, 1e-12), (2048, 1e-5)]
            {
                let shape = NormShape::new(width, eps, storage).unwrap();
                let cubin = compile(shape, architecture).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
                assert!(cubin.starts_with(b"\x7fELF"), "{shape:?} for {architecture} is no machine code");
                for kernel in [b".text.pre_norm".as_slice(), b".text.post_norm"] {
                    assert!(
                        cubin.windows(kernel.len()).any(|part| part == kernel),
                        "{shape:?} for {architecture}"
                    );
                }
            }
        }
    }
    let shape = NormShape::new(768, 1e-5, Storage::Half).unwrap();
    let message = compile(shape, "sm_12").unwrap_err().to_string();
    assert!(message.starts_with("nvrtc: ") && message.contains("sm_12"), "{message}");
}

#[test]
fn a_machine_without_nvrtc_is_told_so() {
    let shape = NormShape::new(768, 1e-5, Storage::Half).unwrap();
    match compile(shape, "sm_90") {
        // NVRTC is where libraries are looked for.
        Ok(cubin) => assert!(cubin.starts_with(b"\x7fELF")),
        Err(error) => assert!(matches!(error, KernelError::NoCompiler), "{error}"),
    }
}
