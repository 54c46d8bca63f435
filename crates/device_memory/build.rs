//! Compiles `src/statistics.cpp`, and for this crate's tests `src/pretended.cpp`, against LibTorch's headers.
//!
//! Both need only c10, which is the same in LibTorch for the CPU and for CUDA: the library is linked as it is everywhere.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=src/statistics.cpp");
    println!("cargo::rerun-if-changed=src/pretended.cpp");
    println!("cargo::rerun-if-changed=src/statistics.h");
    // Set by torch-sys's own build script: the folder it linked against, often behind the `.libtorch` link.
    let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        println!("cargo::error=torch-sys names no LibTorch to compile against");
        return;
    };
    let include = library.join("../include");
    // An archive: the linker takes the second file only where something refers to it, which tests alone do.
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .warnings(false)
        .include(include.join("torch/csrc/api/include"))
        .include(&include)
        .files(["src/statistics.cpp", "src/pretended.cpp"])
        .compile("blip_device_memory");
    let folder = library.canonicalize().unwrap_or(library);
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
}
