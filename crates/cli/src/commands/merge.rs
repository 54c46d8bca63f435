//! `blip-serve merge`.

use std::{fs, sync::Arc};

use anyhow::Context as _;
use blip_server::serve::exit::Exit;
use bulk::{Format, Input, Location, MergeInput, MergedShards, is_shard_input, merge_records, merge_shards};
use clap::{Args, ValueHint};

use crate::{messages::print_message, signals::StopSignal};

/// Put the outputs of several machines together
///
/// The parts are record files of one format (JSON lines or CSV), or folders of shards (tar,
/// Parquet). Records are in the order of the parts. With --input, the command checks that the parts
/// have every record or shard of the input, once. A failed check writes nothing. Parts can be URLs,
/// and so can the output folder of shards. A URL of a folder ends in a slash.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve merge 0.jsonl 1.jsonl 2.jsonl -o captions.jsonl -i images.jsonl
  blip-serve merge machine-*/ -o captioned/ -i 'shard-{000..127}.tar'")]
pub(crate) struct MergeCommand {
    /// Outputs of --shard I/N, in the order of I
    #[arg(value_name = "PART", required = true, value_hint = ValueHint::AnyPath)]
    parts: Vec<Location>,

    /// Merged record file, or folder of shards
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    output: Location,

    /// Input of all parts, to check that nothing is missing
    ///
    /// A record file, or the shards as for caption --input.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    input: Option<Location>,

    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

impl MergeCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        for path in self.parts.iter().filter_map(Location::path) {
            // Without the part, its kind and its format are not known.
            fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        }
        let folders = self.parts.iter().filter(|part| is_folder(part)).count();
        anyhow::ensure!(
            folders == 0 || folders == self.parts.len(),
            "some parts are folders: expected only folders of shards, or only record files"
        );
        let signal = Arc::new(StopSignal::watch()?);
        let is_stopped = {
            let signal = Arc::clone(&signal);
            move || signal.number().is_some()
        };
        let message = match folders {
            0 => self.merge_records(is_stopped).await,
            _ => {
                let merge = tokio::task::spawn_blocking(move || self.merge_shards(is_stopped));
                merge.await.context("the merge has panicked")?
            }
        };
        print_message(&message?);
        Ok(signal.number().map_or(Exit::Clean, Exit::Signal))
    }

    fn merge_shards(&self, is_stopped: impl Fn() -> bool) -> anyhow::Result<String> {
        if let Some(input) = &self.input {
            anyhow::ensure!(is_shard_input(input), "{input}: expected shards as the input of folders");
        }
        let merged = merge_shards(&self.parts, &self.output, self.input.as_ref(), self.force, is_stopped);
        let MergedShards { added, total } = merged.map_err(anyhow::Error::msg)?;
        Ok(match added == total {
            true => format!("{added} shards added to {}", self.output),
            false => format!("stopped: {added} of {total} shards added to {}", self.output),
        })
    }

    async fn merge_records(&self, is_stopped: impl Fn() -> bool) -> anyhow::Result<String> {
        let format = format(&self.output)?;
        for part in &self.parts {
            anyhow::ensure!(
                self::format(part)? == format,
                "{part}: expected the format of the output, {}",
                self.output
            );
        }
        let output = self.output.path();
        let output =
            output.with_context(|| format!("cannot write records to {}: use a file", self.output))?;
        anyhow::ensure!(
            self.force || !output.exists(),
            "{} already exists: use --force to replace it",
            output.display()
        );
        let input = self.input.as_ref().map(merge_input).transpose()?;
        let merged = merge_records(&self.parts, format, output, input, is_stopped).await;
        Ok(match merged.map_err(anyhow::Error::msg)? {
            Some(summary) => format!("{} lines merged, {} with an error", summary.records, summary.failed),
            None => "stopped: nothing is written".to_owned(),
        })
    }
}

fn is_folder(part: &Location) -> bool {
    part.path().map_or_else(|| part.name().is_empty(), |path| path.is_dir())
}

fn merge_input(file: &Location) -> anyhow::Result<MergeInput> {
    let input = Input { file: Some(file.clone()), format: format(file)? };
    Ok(MergeInput { input, name: file.to_string() })
}

fn format(file: &Location) -> anyhow::Result<Format> {
    Format::from_extension(file).ok_or_else(|| anyhow::anyhow!("{file}: expected *.jsonl, *.ndjson or *.csv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn missing_part_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("0")).unwrap();
        fs::write(path("0.jsonl"), "").unwrap();
        for parts in [["0", "absent"], ["0.jsonl", "absent"], ["absent", "1"]] {
            let parts = parts.map(|name| path(name).into()).to_vec();
            let command = MergeCommand { parts, output: path("out").into(), input: None, force: false };
            let error = format!("{:#}", command.run().await.unwrap_err());
            let expected = format!("cannot read {}: No such file", path("absent").display());
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
