//! Compiles `src/stream.cpp` to a shared library that the crate carries inside itself.
//!
//! It needs LibTorch's CUDA headers and those of the CUDA runtime. Where they are missing the crate is built without
//! it, and says so when it is asked for a stream.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=src/stream.cpp");
    println!("cargo::rustc-check-cfg=cfg(with_library)");
    let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    let library = library.canonicalize().unwrap_or(library);
    // For tests, which link to LibTorch and compile against it.
    println!("cargo::rustc-link-arg-tests=-Wl,-rpath,{}", library.display());
    println!("cargo::rustc-env=LIBTORCH_LIB={}", library.display());
    let include = library.join("../include");
    println!("cargo::rerun-if-changed={}", include.join("cuda_runtime_api.h").display());
    let headers = ["ATen/cuda/CUDAGraph.h", "cuda_runtime_api.h", "crt/host_defines.h"];
    if let Some(missing) = headers.iter().find(|header| !include.join(header).exists()) {
        println!(
            "cargo::warning=built without CUDA streams, events and graphs: {} has no {missing}",
            include.display()
        );
        return;
    }
    let Some(output) =
        env::var_os("OUT_DIR").map(|folder| PathBuf::from(folder).join("libblip_cuda_stream.so"))
    else {
        return;
    };
    let mut compiler: Command = cc::Build::new()
        .cpp(true)
        .std("c++20")
        .pic(true)
        .opt_level(2)
        .debug(false)
        .warnings(false)
        .get_compiler()
        .to_command();
    let status = compiler
        .arg("-shared")
        .arg("-isystem")
        .arg(&include)
        .arg("-isystem")
        .arg(include.join("torch/csrc/api/include"))
        .arg("src/stream.cpp")
        .arg("-o")
        .arg(&output)
        .status();
    match status {
        Ok(status) if status.success() => println!("cargo::rustc-cfg=with_library"),
        outcome => println!("cargo::error=src/stream.cpp did not compile: {outcome:?}"),
    }
}
