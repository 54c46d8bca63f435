//! The results file of an evaluation, and the files that precede it.

use std::path::{Path, PathBuf};

use bulk::ExistingFile;

/// Returns whether the results file exists. Returns an error if it must not.
pub(crate) fn refuse_existing(results: &Path, existing: ExistingFile) -> anyhow::Result<bool> {
    let exists = results.exists();
    anyhow::ensure!(
        !exists || existing != ExistingFile::Refuse,
        "{} already exists: use --resume to print its metrics or --force to replace it",
        results.display()
    );
    Ok(exists)
}

/// Returns the name of a file with results until the results file is complete.
pub(crate) fn partial_file(results: &Path, step: &str) -> PathBuf {
    let mut name = results.as_os_str().to_owned();
    name.push(format!("{step}.partial.jsonl"));
    name.into()
}
