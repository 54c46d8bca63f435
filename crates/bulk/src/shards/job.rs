//! The shards of a run, and where their results go.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    sync::{Arc, OnceLock},
};

use crate::{
    output::ExistingFile,
    part::Part,
    shards::{pattern::expand, shard_format::ShardFormat},
    storage::{Location, OutputFolder, is_same_file},
};

/// A shard to process.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) input: Location,
    pub(super) format: ShardFormat,
    /// The complete output shard.
    pub(super) output: Location,
    /// The output, if it exists and its failed samples are retried.
    pub(super) retried: Option<Arc<RetriedOutput>>,
}

/// The keys of the samples whose results in an output shard are errors or missing.
pub(super) type FailedKeys = HashSet<String>;

/// The output of an earlier run, whose failed samples are retried.
#[derive(Debug, Default)]
pub(super) struct RetriedOutput {
    /// The keys of its failed samples, or the reason why it cannot be read. The reader and the
    /// writer share them.
    pub(super) failed: OnceLock<Result<Arc<FailedKeys>, String>>,
}

/// The shards of a run that have no output yet, or whose failed samples are retried.
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
    pub fn find(
        input: &Location,
        output: &Location,
        existing: ExistingFile,
        part: Part,
    ) -> Result<Self, String> {
        let inputs = expand(input)?;
        let folder = OutputFolder::open(output)?;
        let mut names: HashMap<OsString, Location> = HashMap::new();
        let mut files = Self::default();
        for (at, input) in inputs.into_iter().enumerate() {
            let format = ShardFormat::of(&input)?;
            let name = input.name().to_owned();
            if let Some(other) = names.insert(name.clone(), input.clone()) {
                return Err(format!(
                    "{other} and {input} have the same name: use one output folder for each"
                ));
            }
            if !part.contains(at) {
                continue;
            }
            let exists = folder.has(&name);
            let is_retried = exists && existing == ExistingFile::RetryFailed;
            let retried = is_retried.then(Arc::default);
            let job = Job { output: output.join(&name), retried, input, format };
            match (exists, existing) {
                (true, ExistingFile::Refuse) => {
                    return Err(format!(
                        "{} already exists: use --resume to process the other shards or --force to replace it",
                        job.output
                    ));
                }
                (true, _) if is_same_file(&job.input, &job.output) => {
                    return Err(format!("the output folder has the input {}", job.input));
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
    pub fn outputs(input: &Location, output: &Location, part: Part) -> Result<Vec<Location>, String> {
        let inputs = expand(input)?.into_iter().enumerate().filter(|(at, _)| part.contains(*at));
        Ok(inputs.map(|(_, input)| output.join(input.name())).collect())
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn names(files: &ShardFiles) -> Vec<String> {
        files.jobs.iter().map(|job| job.output.name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn existing_outputs_are_refused_skipped_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("{0..3}.tar"), folder.path().join("out"));
        let (from, to) = (input.into(), output.clone().into());
        let find = |existing| ShardFiles::find(&from, &to, existing, Part::WHOLE);
        assert_eq!(names(&find(ExistingFile::Refuse).unwrap()), ["0.tar", "1.tar", "2.tar", "3.tar"]);
        fs::write(output.join("1.tar"), b"").unwrap();
        assert!(find(ExistingFile::Refuse).unwrap_err().contains("1.tar already exists: use --resume"));
        let resumed = find(ExistingFile::Resume).unwrap();
        assert_eq!(
            (names(&resumed), resumed.complete),
            (vec!["0.tar".into(), "2.tar".into(), "3.tar".into()], 1)
        );
        assert_eq!(find(ExistingFile::Replace).unwrap().len(), 4);
        let retried = find(ExistingFile::RetryFailed).unwrap();
        let retried: Vec<bool> = retried.jobs.iter().map(|job| job.retried.is_some()).collect();
        assert_eq!(retried, [false, true, false, false]);
    }

    #[test]
    fn parts_have_every_shard_once() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("{0..4}.tar").into();
        let output = folder.path().into();
        let part = |index| {
            let part = Part::new(index, 2).unwrap();
            names(&ShardFiles::find(&input, &output, ExistingFile::Refuse, part).unwrap())
        };
        assert_eq!(
            (part(0), part(1)),
            (vec!["0.tar".into(), "2.tar".into(), "4.tar".into()], vec!["1.tar".into(), "3.tar".into()])
        );
        let outputs =
            ShardFiles::outputs(&input, &Path::new("out").into(), Part::new(1, 2).unwrap()).unwrap();
        assert_eq!(outputs, ["out/1.tar", "out/3.tar"].map(|path| Location::from(Path::new(path))));
    }

    #[test]
    fn shards_of_the_same_name_and_the_input_as_output_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let find = |input: &str, output: &Path| {
            let input = folder.path().join(input).into();
            ShardFiles::find(&input, &output.into(), ExistingFile::Replace, Part::WHOLE)
        };
        let error = find("{a,b}/0.tar", &folder.path().join("out")).unwrap_err();
        assert!(error.ends_with("have the same name: use one output folder for each"), "{error}");
        fs::write(folder.path().join("0.tar"), b"").unwrap();
        let error = find("0.tar", folder.path()).unwrap_err();
        assert!(error.starts_with("the output folder has the input "), "{error}");
    }
}
