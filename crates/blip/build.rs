//! Sets the linker's search path for LibTorch, so that binaries run without `LD_LIBRARY_PATH`.

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The build script of torch-sys sets this variable to the folder that it linked against. This
    // is often the target of the `.libtorch` link.
    let Ok(linked) = env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    let folder = Path::new(&linked).canonicalize().unwrap_or_else(|_| linked.clone().into());
    let folder = folder.display();
    println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    // Packages that depend on this one read it as DEP_BLIP_LIBTORCH_LIB.
    println!("cargo::metadata=LIB={folder}");
}
