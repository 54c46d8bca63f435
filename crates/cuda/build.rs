//! Compiles the C++ sources of `src/ffi` to a shared library, which the crate embeds.
//!
//! `memory.cpp` needs the headers of any LibTorch. The other sources also need the headers of
//! LibTorch's CUDA library and of the CUDA runtime. Without them the library has memory statistics
//! only.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=src/ffi");
    println!("cargo::rustc-check-cfg=cfg(with_streams)");
    // The build script of torch-sys sets it, often to a folder behind the `.libtorch` link.
    let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        println!("cargo::error=torch-sys names no LibTorch to compile against");
        return;
    };
    let library = library.canonicalize().unwrap_or(library);
    // For tests, which link to LibTorch and compile against it.
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", library.display());
    println!("cargo::rustc-env=LIBTORCH_LIB={}", library.display());
    let include = library.join("../include");
    println!("cargo::rerun-if-changed={}", include.join("cuda_runtime_api.h").display());
    let headers = [
        "ATen/cuda/CUDAGraph.h",
        "ATen/ops/_flash_attention_forward.h",
        "ATen/ops/_scaled_dot_product_cudnn_attention.h",
        "cuda_runtime_api.h",
        "crt/host_defines.h",
    ];
    let mut sources = vec!["src/ffi/memory.cpp"];
    match headers.iter().find(|header| !include.join(header).exists()) {
        None => {
            sources.extend(["src/ffi/stream.cpp", "src/ffi/attention.cpp", "src/ffi/linear.cpp"]);
            println!("cargo::rustc-cfg=with_streams");
        }
        Some(missing) => println!(
            "cargo::warning=CUDA streams, events and graphs not built: {} missing in {}",
            missing,
            include.display()
        ),
    }
    let output = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("libblip_cuda.so");
    let compiler = cc::Build::new()
        .cpp(true)
        .std("c++20")
        .pic(true)
        .opt_level(2)
        .debug(false)
        .warnings(false)
        .get_compiler();
    let mut command = compiler.to_command();
    command.arg("-shared").args(sources).arg("-o").arg(output);
    for folder in [include.join("torch/csrc/api/include"), include] {
        command.arg("-isystem").arg(folder);
    }
    match command.status() {
        Ok(status) if status.success() => {}
        outcome => println!("cargo::error=src/ffi does not compile: {outcome:?}"),
    }
}
