//! Compilation of the kernels by NVRTC, which needs no GPU.
#![expect(unsafe_code, reason = "opens a library")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use std::path::PathBuf;

use cuda::{ChoiceKernel, CudaError, Fp8Kernels, NormShape, Storage};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// Checks that a cubin has these kernels.
fn check(cubin: Result<Vec<u8>, CudaError>, kernels: &[&str], case: &str) {
    let cubin = cubin.map_err(|error| format!("{case}: {error}")).unwrap();
    assert!(cubin.starts_with(b"\x7fELF"), "{case}");
    for kernel in kernels {
        let section = format!(".text.{kernel}");
        assert!(cubin.windows(section.len()).any(|part| part == section.as_bytes()), "{case}: {kernel}");
    }
}

/// Opens NVRTC by its path, as LibTorch's CUDA library does. The library path need not contain it.
fn open_nvrtc() {
    let folder = std::env::var("NVRTC_FOLDER").expect("NVRTC_FOLDER is set by `make test-rust`");
    let library = PathBuf::from(folder).join("libnvrtc.so.13");
    // SAFETY: the library is NVIDIA's compiler.
    let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) };
    std::mem::forget(opened.unwrap());
}

#[test]
#[ignore = "needs NVRTC: `make test-rust` downloads it and runs this test"]
fn nvrtc_compiles_every_kernel() {
    open_nvrtc();
    for architecture in ["sm_80", "sm_89", "sm_90", "sm_100", "sm_103", "sm_120", "sm_121"] {
        for storage in [Storage::Half, Storage::Float] {
            for (width, eps) in
                [(40, 1e-5), (256, 1e-5), (768, 1e-5), (768, 1e-12), (1024, 1e-12), (2048, 1e-5)]
            {
                let shape = NormShape::new(width, eps, storage).unwrap();
                let case = format!("{shape:?} for {architecture}");
                check(shape.compile(architecture), &["pre_norm", "post_norm"], &case);
            }
            let case = format!("{storage:?} for {architecture}");
            check(ChoiceKernel::compile_for(storage, architecture), &["choose"], &case);
        }
    }
    let shape = NormShape::new(768, 1e-5, Storage::Half).unwrap();
    let with_fp8 = shape.with_fp8_norms().unwrap();
    for architecture in ["sm_89", "sm_90", "sm_100", "sm_103", "sm_120", "sm_121"] {
        let case = format!("FP8 for {architecture}");
        check(with_fp8.compile(architecture), &["pre_norm", "post_norm", "pre_norm_fp8"], &case);
        check(Fp8Kernels::compile_for(architecture), &["quantize", "gelu_quantize"], &case);
    }
    for cubin in [with_fp8.compile("sm_80"), Fp8Kernels::compile_for("sm_80")] {
        let message = cubin.unwrap_err().to_string();
        assert!(message.contains("sm_80") && message.contains("e4m3"), "{message}");
    }
    let message = shape.compile("sm_12").unwrap_err().to_string();
    assert!(message.starts_with("nvrtc failed: ") && message.contains("sm_12"), "{message}");
}

#[test]
fn compile_without_nvrtc_reports_it_missing() {
    let shape = NormShape::new(768, 1e-5, Storage::Half).unwrap();
    match shape.compile("sm_90") {
        // NVRTC is on the library path of this machine.
        Ok(cubin) => assert!(cubin.starts_with(b"\x7fELF")),
        Err(error) => assert!(matches!(error, CudaError::NvrtcMissing), "{error}"),
    }
}
