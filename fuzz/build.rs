//! Sets the run path of LibTorch, because the targets link the whole server.

fn main() {
    println!("cargo::rerun-if-env-changed=DEP_BLIP_LIBTORCH_LIB");
    if let Ok(folder) = std::env::var("DEP_BLIP_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
