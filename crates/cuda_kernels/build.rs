//! Tells the linker where LibTorch's libraries are, so that this crate's tests need no `LD_LIBRARY_PATH`.

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Set by torch-sys's own build script: the folder it linked against, often behind the `.libtorch` link.
    let Ok(linked) = env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    let folder = Path::new(&linked).canonicalize().unwrap_or_else(|_| linked.clone().into());
    let folder = folder.display();
    println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
}
