//! `blip-serve embed`.

use blip_server::serve::exit::Exit;
use clap::Args;
use proto::EmbedRequest;

use crate::{
    commands::{
        interactive::{self, RecordGroups},
        record_file::Activity,
        task_args::TaskArgs,
    },
    output::ResultPrinter,
    records::EmbedTask,
    target::DefaultModel,
};

/// Embed images and texts, for search
///
/// A running server computes the embeddings, or with --local a model in this process. The command
/// prints one JSON object per line. With --input it processes a record file. A record has the field
/// image or text.
#[derive(Args, Debug)]
#[command(
    // Embeddings are always printed as JSON.
    mut_arg("json", |argument| argument.hide(true)),
    after_help = "Examples:
  blip-serve embed photos/ -t \"a cat\"
  blip-serve embed -i images.jsonl -o vectors.jsonl"
)]
pub(crate) struct EmbedCommand {
    /// Text; repeatable
    #[arg(short = 't', long = "text", value_name = "TEXT", conflicts_with = "input")]
    texts: Vec<String>,

    #[command(flatten)]
    task: TaskArgs,
}

const ACTIVITY: Activity = Activity {
    name: "embedding",
    columns: &["id", "image", "text", "embedding", "error"],
    nothing_given: "no image and no text: expected a file, a folder, a URL, --text or --input",
    request_field: "text",
    column_fields: &["text"],
    text_field: None,
    default_model: DefaultModel::Match,
};

impl EmbedCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        let request = EmbedRequest {
            model: self.task.target.model_name(),
            priority: self.task.target.priority(),
            ..EmbedRequest::default()
        };
        let texts = &self.texts;
        let to_groups = |images: Vec<String>| {
            let count = images.len().saturating_add(texts.len());
            let images = images.into_iter().map(|image| vec![interactive::record("image", &image)]);
            let texts = texts.iter().map(|text| vec![interactive::record("text", text)]);
            RecordGroups { count, groups: Box::new(images.chain(texts)) }
        };
        let prefers_images = self.task.has_shards();
        let to_task = |client, images| EmbedTask { client, images, request, prefers_images };
        let printer = ResultPrinter::new(true, false);
        self.task.run(ACTIVITY, variables, &printer, &[], to_groups, to_task).await
    }
}
