//! `blip-serve convert`.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, anyhow};
use blip::{ConvertError, Dtype, WrittenFile};
use blip_server::{models::source::ModelSource, serve::exit::Exit};
use clap::{Args, ValueHint};

use crate::embedded_models::EMBEDDED_MODELS;

/// Convert a model to a Hugging Face folder with safetensors weights
///
/// The command reads model.safetensors, pytorch_model.bin, shards of either, and the .pth files of
/// the original repository. It never runs code in them. The folder appears after all files are
/// written. One tensor at a time is in memory.
#[derive(Args, Debug)]
pub(crate) struct ConvertCommand {
    /// Model: a folder, a name on the hub, or a weights file
    ///
    /// A weights file (.pth, .bin) needs these files in its folder: config.json,
    /// preprocessor_config.json, and vocab.txt or tokenizer.json.
    #[arg(short, long, value_name = "DIR|FILE|ORG/NAME[@REVISION]", value_hint = ValueHint::AnyPath)]
    model: String,

    /// Output folder
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    output: PathBuf,

    /// Number format of the weights
    #[arg(long, value_name = "f16|f32|bf16", default_value = "f16", value_parser = file_dtype)]
    dtype: Dtype,

    /// Replace the output if it exists and holds nothing but a model
    #[arg(long)]
    force: bool,
}

/// Parses the number format of a file.
fn file_dtype(text: &str) -> Result<Dtype, String> {
    match text.parse() {
        Ok(dtype) if dtype != Dtype::Int8 => Ok(dtype),
        _ => Err(format!("unknown dtype {text:?}, expected f32, f16 or bf16")),
    }
}

impl ConvertCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let Self { model, output, dtype, force } = self;
        let cannot_convert = || format!("cannot convert model {model:?}");
        let source = ModelSource::find(&model, EMBEDDED_MODELS).with_context(cannot_convert)?;
        let files = source.fetch().await.with_context(cannot_convert)?.files;
        let folder = output.clone();
        let converted = tokio::task::spawn_blocking(move || blip::convert(&files, &folder, dtype, force));
        let written = match converted.await.context("conversion was cancelled")? {
            Err(exists @ ConvertError::Exists(_)) => Err(anyhow!("{exists}: use --force to replace it")),
            written => written.map_err(Into::into),
        };
        let mut out = std::io::stdout();
        for WrittenFile { name, bytes } in written.with_context(cannot_convert)? {
            writeln!(out, "{} ({bytes} bytes)", output.join(name).display()).context("cannot print")?;
        }
        Ok(Exit::Clean)
    }
}
