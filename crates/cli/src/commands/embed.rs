//! `blip-serve embed`.

use bulk::Fields;
use clap::Args;
use proto::EmbedRequest;
use serde_json::json;
use server::serve::exit::Exit;

use crate::{
    commands::{interactive, record_file::BulkOptions},
    connection::ConnectionOptions,
    request_args::ModelArgs,
    image_paths::ImageOptions,
    output::Format,
    records::Embedding,
};

/// Have a running server turn images and texts into vectors, for search.
///
/// Prints one JSON object a line. Or a file is worked through: lines of image or text.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve embed photos/ --text \"a cat\"
  blip-serve embed --input images.jsonl --output vectors.jsonl")]
pub struct EmbedCommand {
    #[command(flatten)]
    images: ImageOptions,

    /// A text; may be given several times
    #[arg(long = "text", value_name = "TEXT", conflicts_with = "input")]
    texts: Vec<String>,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    bulk: BulkOptions,

    #[command(flatten)]
    connection: ConnectionOptions,

    /// When to give up on one of them, in seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    timeout_s: Option<u64>,
}

/// Columns of a CSV file of vectors.
const COLUMNS: [&str; 5] = ["id", "image", "text", "embedding", "error"];

impl EmbedCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let images = if self.bulk.is_wanted() { Vec::new() } else { self.images.expanded()? };
        let task = Embedding {
            template: self.connection.template(self.timeout_s)?,
            channel: self.connection.connect().await?,
            pictures: self.bulk.pictures(),
            request: EmbedRequest {
                model: self.model.model.clone(),
                priority: self.model.priority(),
                ..EmbedRequest::default()
            },
        };
        if self.bulk.is_wanted() {
            return self.bulk.run(&task, "embedding", &COLUMNS).await;
        }
        let one = |name: &str, value: &String| -> Vec<Fields> {
            vec![[(name.to_owned(), json!(value))].into_iter().collect()]
        };
        let images = images.iter().map(|image| one("image", image));
        let lots = images.chain(self.texts.iter().map(|text| one("text", text))).collect();
        interactive::run(&task, lots, Format::Json).await
    }
}
