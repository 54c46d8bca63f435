//! C++ sources of a crate's `tests/host`, compiled for the host; `cuda_kernels` compiles its own with it, too.

use std::path::{Path, PathBuf};

/// Compiles `name` with these options to a library in `folder`; `soname` is what it calls itself.
pub(crate) fn compile(name: &str, options: &[String], soname: &str, folder: &Path) -> PathBuf {
    let library = folder.join(soname);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host").join(name);
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
        .out_dir(folder)
        .get_compiler();
    let mut command = compiler.to_command();
    command.args(options).args(["-shared", "-pthread", "-w"]).arg(format!("-Wl,-soname,{soname}"));
    let status = command.arg(&source).arg("-o").arg(&library).status().unwrap();
    assert!(status.success(), "{} does not compile", source.display());
    library
}
