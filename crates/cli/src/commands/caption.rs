//! `blip-serve caption`.

use std::sync::Arc;

use blip_server::{request::generation::GenerationOptions, serve::exit::Exit};
use bulk::Fields;
use clap::Args;
use proto::CaptionRequest;

use crate::{
    commands::{interactive, record_file::Activity, task_args::TaskArgs},
    output::ResultPrinter,
    records::{CaptionTask, PieceSink},
    request_args::generation_message,
    target::DefaultModel,
};

/// Caption images
///
/// A running server writes the captions, or with --local a model in this process. With --input the
/// command processes a record file. A record has the field image, and optionally prompt.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve caption photos/*.jpg
  blip-serve caption cat.jpg --prompt \"a picture of\" --num-beams 3
  blip-serve caption cat.jpg --stream
  blip-serve caption photos/ --model Salesforce/blip-image-captioning-base -o captions.jsonl
  blip-serve caption photos/ -o photos/ --local                  a .txt beside each image
  blip-serve caption -i images.csv -o captions.csv
  blip-serve caption -i 'shard-{000..127}.tar' -o captioned/ --local --resume")]
pub(crate) struct CaptionCommand {
    /// Beginning of the caption; repeatable, for several captions of each image
    ///
    /// With --input, it is the prompt of records without one.
    #[arg(long = "prompt", value_name = "TEXT")]
    prompts: Vec<String>,

    /// Print captions word by word, one image after the other
    #[arg(long, conflicts_with_all = ["input", "output", "num_beams"])]
    stream: bool,

    #[command(flatten)]
    task: TaskArgs,

    #[command(flatten)]
    generation: GenerationOptions,
}

const ACTIVITY: Activity = Activity {
    name: "captioning",
    columns: &["id", "image", "prompt", "caption", "score", "margin", "error"],
    nothing_given: "no image: expected a file, a folder, a URL or --input",
    request_field: "prompt",
    column_fields: &["prompt"],
    text_field: Some("caption"),
    default_model: DefaultModel::Caption,
};

impl CaptionCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        let mut prompts: Vec<Fields> =
            self.prompts.iter().map(|prompt| interactive::record("prompt", prompt)).collect();
        if prompts.is_empty() {
            prompts.push(Fields::new());
        }
        let request = CaptionRequest {
            model: self.task.target.model_name(),
            priority: self.task.target.priority(),
            generation: generation_message(self.generation),
            stream_tokens: self.stream,
            ..CaptionRequest::default()
        };
        let printer = Arc::new(ResultPrinter::new(self.task.json, self.stream));
        let pieces = self.stream.then(|| -> PieceSink {
            let printer = Arc::clone(&printer);
            // Ignores an output that is closed. Printing the result will report it.
            Box::new(move |fields, piece| drop(printer.print_piece(fields, piece)))
        });
        let to_groups = |images| {
            let mut records = interactive::groups_by_image(images, "prompt", &prompts);
            if self.stream {
                records.groups = Box::new(records.groups.flatten().map(|record| vec![record]));
            }
            records
        };
        let to_task = |client, images| CaptionTask { client, images, request, pieces };
        self.task.run(ACTIVITY, variables, &printer, &prompts, to_groups, to_task).await
    }
}
