//! Embeds the files of the demo models, records the commit, and passes the folder of LibTorch to
//! the linker.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    embed_demo_models(&root, &out)?;
    record_build(&root)?;
    link_libtorch();
    Ok(())
}

/// Writes `demo_models.rs`: for each folder `models/demo*` its name and its files.
///
/// A file is a pair of name and contents.
fn embed_demo_models(root: &Path, out: &Path) -> io::Result<()> {
    let models = root.join("models");
    println!("cargo::rerun-if-changed={}", models.display());
    let mut list = String::from("&[\n");
    for folder in sorted(&models)?.iter().filter(|path| path.is_dir()) {
        let name = name_of(folder);
        if !name.starts_with("demo") {
            continue;
        }
        list.push_str(&format!("    ({name:?}, &[\n"));
        for path in sorted(folder)? {
            let name = name_of(&path);
            // The program does not read the other files.
            if name == "vocab.txt" || name.ends_with(".json") || name.ends_with(".safetensors") {
                list.push_str(&format!("        ({name:?}, include_bytes!({path:?}).as_slice()),\n"));
            }
        }
        list.push_str("    ]),\n");
    }
    list.push_str("]\n");
    fs::write(out.join("demo_models.rs"), list)
}

/// Returns the entries of a folder, sorted by name.
fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Sets `BLIP_SERVE_COMMIT` to the commit of the build, or to "unknown" outside a checkout.
fn record_build(root: &Path) -> io::Result<()> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    let commit = env::var("BLIP_SERVE_COMMIT").ok().or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=BLIP_SERVE_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rerun-if-env-changed=BLIP_SERVE_COMMIT");
    // Every commit and checkout changes this file. A missing path would rerun this script in every
    // build.
    for path in [git(&["rev-parse", "--git-path", "logs/HEAD"])].into_iter().flatten() {
        if root.join(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    Ok(())
}

/// Sets the run path of LibTorch, so that programs and tests do not need `LD_LIBRARY_PATH`.
fn link_libtorch() {
    println!("cargo::rerun-if-env-changed=DEP_BLIP_LIBTORCH_LIB");
    let Ok(folder) = env::var("DEP_BLIP_LIBTORCH_LIB") else { return };
    println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
}
