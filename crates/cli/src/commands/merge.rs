//! `blip-serve merge`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use blip_server::serve::exit::Exit;
use bulk::{Format, Input, MergeInput, is_shard_input, merge_records, merge_shards};
use clap::{Args, ValueHint};

use crate::messages::print_message;

/// Put the outputs of several machines together
///
/// The parts are record files of one format (JSON lines or CSV), or folders of shards (tar,
/// Parquet). Records are in the order of the parts. With --input, the command checks that the parts
/// have every record or shard of the input, once. A failed check writes nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve merge 0.jsonl 1.jsonl 2.jsonl -o captions.jsonl -i images.jsonl
  blip-serve merge machine-*/ -o captioned/ -i 'shard-{000..127}.tar'")]
pub(crate) struct MergeCommand {
    /// Outputs of --shard I/N, in the order of I
    #[arg(value_name = "PART", required = true, value_hint = ValueHint::AnyPath)]
    parts: Vec<PathBuf>,

    /// Merged record file, or folder of shards
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    output: PathBuf,

    /// Input of all parts, to check that nothing is missing
    ///
    /// A record file, or the shards as for caption --input.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    input: Option<PathBuf>,

    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

impl MergeCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        for part in &self.parts {
            // Without the part, its kind and its format are not known.
            fs::metadata(part).with_context(|| format!("cannot read {}", part.display()))?;
        }
        let folders = self.parts.iter().filter(|part| part.is_dir()).count();
        let message = match folders {
            0 => self.merge_records().await?,
            count if count == self.parts.len() => self.merge_shards()?,
            _ => {
                anyhow::bail!("some parts are folders: expected only folders of shards, or only record files")
            }
        };
        print_message(&message);
        Ok(Exit::Clean)
    }

    fn merge_shards(&self) -> anyhow::Result<String> {
        if let Some(input) = &self.input {
            anyhow::ensure!(
                is_shard_input(input),
                "{}: expected shards as the input of folders",
                input.display()
            );
        }
        let merged = merge_shards(&self.parts, &self.output, self.input.as_deref(), self.force);
        let count = merged.map_err(anyhow::Error::msg)?;
        Ok(format!("{count} shards added to {}", self.output.display()))
    }

    async fn merge_records(&self) -> anyhow::Result<String> {
        let format = format(&self.output)?;
        for part in &self.parts {
            anyhow::ensure!(
                self::format(part)? == format,
                "{}: expected the format of the output, {}",
                part.display(),
                self.output.display()
            );
        }
        anyhow::ensure!(
            self.force || !self.output.exists(),
            "{} already exists: use --force to replace it",
            self.output.display()
        );
        let input = self.input.as_deref().map(merge_input).transpose()?;
        let merged = merge_records(&self.parts, format, &self.output, input).await;
        let summary = merged.map_err(anyhow::Error::msg)?;
        Ok(format!("{} lines merged, {} with an error", summary.records, summary.failed))
    }
}

fn merge_input(path: &Path) -> anyhow::Result<MergeInput> {
    let input = Input { path: Some(path.to_owned()), format: format(path)? };
    Ok(MergeInput { input, name: path.display().to_string() })
}

fn format(path: &Path) -> anyhow::Result<Format> {
    Format::from_extension(path)
        .ok_or_else(|| anyhow::anyhow!("{}: expected *.jsonl, *.ndjson or *.csv", path.display()))
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
            let parts = parts.map(path).to_vec();
            let command = MergeCommand { parts, output: path("out"), input: None, force: false };
            let error = format!("{:#}", command.run().await.unwrap_err());
            let expected = format!("cannot read {}: No such file", path("absent").display());
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
