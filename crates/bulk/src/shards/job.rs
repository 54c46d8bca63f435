//! The shards of a run, and where their results go.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    output::ExistingFile,
    part::Part,
    shards::{pattern::expand, shard_format::ShardFormat},
};

/// A shard to process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) input: PathBuf,
    pub(super) format: ShardFormat,
    /// The complete output shard.
    pub(super) output: PathBuf,
    /// The output shard while it is written.
    pub(super) partial: PathBuf,
    /// The size of the input, in bytes. 0 if it cannot be read.
    pub(super) bytes: u64,
}

/// The shards of a run that have no output yet.
#[derive(Clone, Debug, Default)]
pub struct ShardFiles {
    pub(super) jobs: Vec<Job>,
    /// The number of shards whose output is complete.
    pub complete: usize,
}

impl ShardFiles {
    /// Finds the shards that `input` names and that belong to `part`. Their results go into the
    /// folder `output`, which is created, under the same file names.
    ///
    /// `input` is a shard, a name with braces such as `shard-{000..127}.tar`, or a folder.
    /// The extension of each shard decides its format.
    ///
    /// # Errors
    /// An input that names no shards, a format that this build does not have, two shards of the
    /// same name, an output shard that exists if [`ExistingFile::Refuse`] applies, or an output
    /// folder that cannot be created.
    pub fn find(input: &Path, output: &Path, existing: ExistingFile, part: Part) -> Result<Self, String> {
        let inputs = expand(input)?;
        fs::create_dir_all(output)
            .map_err(|error| format!("cannot create the output folder {}: {error}", output.display()))?;
        let mut names: HashMap<PathBuf, PathBuf> = HashMap::new();
        let mut files = Self::default();
        for (at, input) in inputs.into_iter().enumerate() {
            let format = ShardFormat::of(&input)?;
            let name = input.file_name().map(PathBuf::from).unwrap_or_default();
            if let Some(other) = names.insert(name.clone(), input.clone()) {
                let (one, other) = (other.display(), input.display());
                return Err(format!("{one} and {other} have the same name: use one output folder for each"));
            }
            if !part.contains(at) {
                continue;
            }
            let job = Job {
                output: output.join(&name),
                partial: output.join(format!(".{}.partial", name.to_string_lossy())),
                bytes: fs::metadata(&input).map(|metadata| metadata.len()).unwrap_or_default(),
                input,
                format,
            };
            match (job.output.exists(), existing) {
                (true, ExistingFile::Refuse) => {
                    return Err(format!(
                        "{} already exists: use --resume to process the other shards or --force to replace it",
                        job.output.display()
                    ));
                }
                (true, _) if is_same_file(&job.input, &job.output) => {
                    return Err(format!("the output folder has the input {}", job.input.display()));
                }
                (true, ExistingFile::Resume) => files.complete += 1,
                _ => files.jobs.push(job),
            }
        }
        Ok(files)
    }

    /// Returns the output shards of the shards that `input` names and that belong to `part`. Those
    /// of shards that cannot be read do not exist.
    ///
    /// # Errors
    /// An input that names no shards.
    pub fn outputs(input: &Path, output: &Path, part: Part) -> Result<Vec<PathBuf>, String> {
        let inputs = expand(input)?.into_iter().enumerate().filter(|(at, _)| part.contains(*at));
        Ok(inputs.filter_map(|(_, input)| Some(output.join(input.file_name()?))).collect())
    }

    /// Returns the number of shards to process.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Returns whether no shard is left to process.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

/// Returns whether two paths are those of one existing file.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| -> io::Result<PathBuf> { fs::canonicalize(path) };
    matches!((real(one), real(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &ShardFiles) -> Vec<String> {
        files.jobs.iter().map(|job| job.output.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn existing_outputs_are_refused_skipped_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("{0..3}.tar"), folder.path().join("out"));
        let find = |existing| ShardFiles::find(&input, &output, existing, Part::WHOLE);
        assert_eq!(names(&find(ExistingFile::Refuse).unwrap()), ["0.tar", "1.tar", "2.tar", "3.tar"]);
        fs::write(output.join("1.tar"), b"").unwrap();
        assert!(find(ExistingFile::Refuse).unwrap_err().contains("1.tar already exists: use --resume"));
        let resumed = find(ExistingFile::Resume).unwrap();
        assert_eq!(
            (names(&resumed), resumed.complete),
            (vec!["0.tar".into(), "2.tar".into(), "3.tar".into()], 1)
        );
        assert_eq!(find(ExistingFile::Replace).unwrap().len(), 4);
    }

    #[test]
    fn parts_have_every_shard_once() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("{0..4}.tar");
        let part = |index| {
            let part = Part::new(index, 2).unwrap();
            names(&ShardFiles::find(&input, folder.path(), ExistingFile::Refuse, part).unwrap())
        };
        assert_eq!(
            (part(0), part(1)),
            (vec!["0.tar".into(), "2.tar".into(), "4.tar".into()], vec!["1.tar".into(), "3.tar".into()])
        );
        let outputs = ShardFiles::outputs(&input, Path::new("out"), Part::new(1, 2).unwrap()).unwrap();
        assert_eq!(outputs, [Path::new("out/1.tar"), Path::new("out/3.tar")]);
    }

    #[test]
    fn shards_of_the_same_name_and_the_input_as_output_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let find = |input: &str, output: &Path| {
            ShardFiles::find(&folder.path().join(input), output, ExistingFile::Replace, Part::WHOLE)
        };
        let error = find("{a,b}/0.tar", &folder.path().join("out")).unwrap_err();
        assert!(error.ends_with("have the same name: use one output folder for each"), "{error}");
        fs::write(folder.path().join("0.tar"), b"").unwrap();
        let error = find("0.tar", folder.path()).unwrap_err();
        assert!(error.starts_with("the output folder has the input "), "{error}");
    }
}
