//! `blip-serve eval vqa`.

mod results;
mod questions;

use std::path::PathBuf;

use blip_server::{request::generation::GenerationOptions, serve::exit::Exit};
use bulk::{ExistingFile, Format, Input};
use clap::{Args, ValueHint};
use proto::AskRequest;

use crate::{
    commands::{
        eval::{
            image_pattern::ImagePattern,
            partial_results::PartialResults,
            results_file::{partial_file, refuse_existing},
            vqa::questions::Questions,
        },
        record_file::RunArgs,
    },
    connection::RpcClient,
    records::{AskTask, ImageLoader},
    request_args::generation_message,
    target::{DefaultModel, TargetArgs},
};

/// Compute the accuracy of a model on a VQA data set
///
/// The files have the formats of VQA version 2 (visualqa.org). Accuracy is the official one: an
/// answer that three of ten people gave is correct. For questions without annotations, such as test
/// sets, the command writes the results file only. A running server answers the questions, or with
/// --local a model in this process.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  blip-serve eval vqa --questions v2_OpenEnded_mscoco_val2014_questions.json \\
      --annotations v2_mscoco_val2014_annotations.json --images val2014 --results results.json")]
pub(crate) struct VqaCommand {
    /// File of questions
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    questions: PathBuf,

    /// File of human answers [default: accuracy is not computed]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    annotations: Option<PathBuf>,

    /// Folder of the images
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    images: PathBuf,

    /// Name of image files; {image_id} stands for the number of an image
    ///
    /// {image_id:012} is the number in 12 digits.
    #[arg(long, value_name = "PATTERN", default_value = "COCO_val2014_{image_id:012}.jpg")]
    image_pattern: ImagePattern,

    /// Output file of the answers, in the format of the leaderboard
    ///
    /// Until all answers are available, they are in a file with the suffix .partial.jsonl.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    results: PathBuf,

    /// Name of a list of allowed answers on the server
    #[arg(long, value_name = "NAME")]
    candidate_list: Option<String>,

    #[command(flatten)]
    run: RunArgs,

    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    generation: GenerationOptions,
}

impl VqaCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        let exists = refuse_existing(&self.results, self.run.existing())?;
        let questions = Questions::read(&self.questions)?;
        let exit = if exists && self.run.existing() == ExistingFile::Resume {
            Exit::Clean
        } else {
            self.ask(&questions, variables).await?
        };
        if let Exit::Signal(_) = exit {
            return Ok(exit);
        }
        if let Some(annotations) = &self.annotations {
            results::print_accuracy(&questions, annotations, &self.results)?;
        }
        Ok(exit)
    }

    async fn ask(&self, questions: &Questions, variables: &[String]) -> anyhow::Result<Exit> {
        let ask = async |client| self.ask_with(client, questions).await;
        self.target.run(None, DefaultModel::Ask, variables, ask).await
    }

    async fn ask_with(&self, client: RpcClient, questions: &Questions) -> anyhow::Result<Exit> {
        let request = AskRequest {
            model: self.target.model_name(),
            priority: self.target.priority(),
            generation: generation_message(self.generation),
            ..AskRequest::default()
        };
        let task = AskTask::new(client, ImageLoader { folder: Some(self.images.as_path().into()) }, request);
        let records = questions.records(&self.image_pattern, self.candidate_list.as_deref());
        let partial = PartialResults::new(partial_file(&self.results, ""));
        let (exit, is_complete) =
            partial.complete(&self.run, &task, ["asking", "questions"], questions.len(), records).await?;
        if is_complete {
            let input = Input { file: Some(partial.path().into()), format: Format::Jsonl };
            results::write(input, &self.results).await?;
            partial.remove()?;
        }
        Ok(exit)
    }
}
