//! `blip-serve embed`.

use blip_server::serve::exit::Exit;
use clap::Args;
use proto::EmbedRequest;

use crate::{
    commands::{interactive, record_file::Activity, task_args::TaskArgs},
    output::ResultPrinter,
    records::EmbedTask,
};

/// Embed images and texts with a running server, for search
///
/// The command prints one JSON object per line. With --input it processes a record file. A record
/// has the field image or text.
#[derive(Args, Debug)]
#[command(
    // Embeddings are always printed as JSON.
    mut_arg("json", |argument| argument.hide(true)),
    after_help = "Examples:
  blip-serve embed photos/ --text \"a cat\"
  blip-serve embed --input images.jsonl --output vectors.jsonl"
)]
pub(crate) struct EmbedCommand {
    /// Text; repeatable
    #[arg(long = "text", value_name = "TEXT", conflicts_with = "input")]
    texts: Vec<String>,

    #[command(flatten)]
    task: TaskArgs,
}

const ACTIVITY: Activity = Activity {
    name: "embedding",
    columns: &["id", "image", "text", "embedding", "error"],
    nothing_given: "no image and no text: expected a file, a folder, a URL, --text or --input",
};

impl EmbedCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let request = EmbedRequest {
            model: self.task.model.model.clone(),
            priority: self.task.model.priority(),
            ..EmbedRequest::default()
        };
        let to_groups = |images: &[String]| {
            let images = images.iter().map(|image| vec![interactive::record("image", image)]);
            images.chain(self.texts.iter().map(|text| vec![interactive::record("text", text)])).collect()
        };
        let to_task = |client, images| EmbedTask { client, images, request };
        self.task.run(ACTIVITY, &ResultPrinter::new(true, false), to_groups, to_task).await
    }
}
