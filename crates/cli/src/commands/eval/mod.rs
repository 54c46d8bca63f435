//! `blip-serve eval`.

pub mod questions;
pub mod results;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulk::{ExistingFile, Format, Input, Output, Record};
use clap::{Args, ValueHint};
use futures::stream;
use proto::AskRequest;
use server::{request::generation::GenerationOptions, serve::exit::Exit};

use crate::{
    messages::print_message,
    commands::{
        eval::questions::{ImagePattern, Questions},
        record_file::WorkOptions,
    },
    connection::ConnectionOptions,
    request_args::{ModelArgs, generation_message},
    records::{Asking, Pictures},
};

/// Ask a running server the questions of a VQA data set, and compute the accuracy of its answers.
///
/// Files are as those of VQA version 2 (visualqa.org), and accuracy is the official one: an answer that three of ten people
/// gave is right. Questions without annotations, as of the test sets, give a results file only.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  blip-serve eval --questions v2_OpenEnded_mscoco_val2014_questions.json --annotations v2_mscoco_val2014_annotations.json \\
      --images val2014 --results results.json")]
pub struct EvalCommand {
    /// The questions
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    questions: PathBuf,

    /// What people answered [default: accuracy is not computed]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    annotations: Option<PathBuf>,

    /// The folder of the images
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    images: PathBuf,

    /// What an image's file is called: {image_id} stands for its number, {image_id:012} for its number in 12 digits
    #[arg(long, value_name = "PATTERN", default_value = "COCO_val2014_{image_id:012}.jpg")]
    image_pattern: ImagePattern,

    /// Where answers go, as the leaderboard takes them. Until all are there they are in the file of this name with
    /// .partial.jsonl behind it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    results: PathBuf,

    /// The name of a list of answers that the server has, to choose from
    #[arg(long, value_name = "NAME")]
    candidate_list: Option<String>,

    #[command(flatten)]
    work: WorkOptions,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    generation: GenerationOptions,

    #[command(flatten)]
    connection: ConnectionOptions,
}

impl EvalCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let there = self.results.exists();
        anyhow::ensure!(
            !there || self.work.existing() != ExistingFile::Refuse,
            "{} exists: compute its accuracy by --resume, or begin anew by --force",
            self.results.display()
        );
        let questions = Questions::read(&self.questions)?;
        let exit = if there && self.work.existing() == ExistingFile::Resume {
            Exit::Clean
        } else {
            self.ask(&questions).await?
        };
        if let Exit::Signal(_) = exit {
            return Ok(exit);
        }
        if let Some(annotations) = &self.annotations {
            results::print_accuracy(&questions, annotations, &self.results)?;
        }
        Ok(exit)
    }

    async fn ask(&self, questions: &Questions) -> anyhow::Result<Exit> {
        let request = AskRequest {
            model: self.model.model.clone(),
            priority: self.model.priority(),
            generation: generation_message(self.generation),
            ..AskRequest::default()
        };
        let template = self.connection.template(None)?;
        let channel = self.connection.connect().await?;
        let pictures = Pictures { folder: self.images.clone() };
        let task = Asking::new(channel, template, pictures, request);
        let records = questions.records(&self.image_pattern, self.candidate_list.as_deref());
        let total = u64::try_from(questions.len()).ok();
        let records = stream::iter(
            (0..).zip(records).map(|(position, fields)| Ok(Record { position, fields: Ok(fields) })),
        );
        let partial = partial(&self.results);
        let mut output = Output::open(Some(&partial), Format::Jsonl, &[], self.work.existing())?;
        let (summary, exit) = self.work.run(&task, "asking", records, total, &mut output).await?;
        if summary.interrupted {
            print_message(&format!("stopped after {} questions: --resume goes on", summary.written));
            return Ok(exit);
        }
        let answered = Input { path: Some(partial.clone()), format: Format::Jsonl };
        results::write(answered, &self.results).await?;
        std::fs::remove_file(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        Ok(exit)
    }
}

fn partial(results: &Path) -> PathBuf {
    let mut name = results.as_os_str().to_owned();
    name.push(".partial.jsonl");
    name.into()
}
