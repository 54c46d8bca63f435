//! `blip-serve convert`.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, anyhow};
use blip::{ConvertError, Dtype, WrittenFile};
use clap::{Args, ValueHint};
use server::{models::source::ModelSource, serve::exit::Exit};

use crate::embedded_models::EMBEDDED_MODELS;

/// Write a model of any format as a folder in Hugging Face's layout, with its weights in safetensors.
///
/// Reads model.safetensors, pytorch_model.bin, either in shards, and the .pth files of the original repository, and never
/// runs what is in them. The folder appears when all is written; weights are in memory one tensor at a time.
#[derive(Args, Debug)]
pub struct ConvertCommand {
    /// The model: its folder, its name on the hub, or a file of weights (.pth, .bin) with config.json,
    /// preprocessor_config.json and vocab.txt or tokenizer.json beside it
    #[arg(long, value_name = "DIR|FILE|ORG/NAME[@REVISION]", value_hint = ValueHint::AnyPath)]
    model: String,

    /// The folder to write
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    output: PathBuf,

    /// Number format of the weights
    #[arg(long, value_name = "f16|f32|bf16", default_value = "f16")]
    dtype: Dtype,

    /// Replace the output if it is there and holds a model and nothing else
    #[arg(long)]
    force: bool,
}

impl ConvertCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let Self { model, output, dtype, force } = self;
        let cannot_convert = || format!("cannot convert model {model:?}");
        let source = ModelSource::find(&model, EMBEDDED_MODELS).with_context(cannot_convert)?;
        let files = source.fetch().await.with_context(cannot_convert)?.files;
        let folder = output.clone();
        let converted = tokio::task::spawn_blocking(move || blip::convert(&files, &folder, dtype, force));
        let written = match converted.await.context("converting ended early")? {
            Err(exists @ ConvertError::Exists(_)) => Err(anyhow!("{exists}; --force replaces it")),
            written => written.map_err(Into::into),
        };
        let mut out = std::io::stdout();
        for WrittenFile { name, bytes } in written.with_context(cannot_convert)? {
            writeln!(out, "{} ({bytes} bytes)", output.join(name).display()).context("cannot print")?;
        }
        Ok(Exit::Clean)
    }
}
