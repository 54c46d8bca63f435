//! `blip-serve match`.

use bulk::Fields;
use clap::Args;
use proto::MatchRequest;
use serde_json::json;
use server::serve::exit::Exit;

use crate::{
    commands::{interactive, record_file::BulkOptions},
    connection::ConnectionOptions,
    request_args::ModelArgs,
    image_paths::ImageOptions,
    output::Format,
    records::Matching,
};

/// Have a running server say how well texts describe images.
///
/// Every text is compared with every image. Or a file is worked through: lines of image and text.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve match cat.jpg --text \"a cat\" --text \"a dog\"
  blip-serve match --input pairs.jsonl --output scores.jsonl")]
pub struct MatchCommand {
    #[command(flatten)]
    images: ImageOptions,

    /// A text; may be given several times
    #[arg(long = "text", value_name = "TEXT", required_unless_present = "input", conflicts_with = "input")]
    texts: Vec<String>,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    bulk: BulkOptions,

    #[command(flatten)]
    connection: ConnectionOptions,

    /// Print one JSON object a line, errors too
    #[arg(long)]
    json: bool,

    /// When to give up on an image, in seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    timeout_s: Option<u64>,
}

/// Columns of a CSV file of scores.
const COLUMNS: [&str; 6] = ["id", "image", "text", "probability", "cosine", "error"];

impl MatchCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let images = if self.bulk.is_wanted() { Vec::new() } else { self.images.expanded()? };
        let task = Matching {
            template: self.connection.template(self.timeout_s)?,
            channel: self.connection.connect().await?,
            pictures: self.bulk.pictures(),
            request: MatchRequest {
                model: self.model.model.clone(),
                priority: self.model.priority(),
                ..MatchRequest::default()
            },
        };
        if self.bulk.is_wanted() {
            return self.bulk.run(&task, "matching", &COLUMNS).await;
        }
        let asked: Vec<Fields> =
            self.texts.iter().map(|text| [("text".to_owned(), json!(text))].into_iter().collect()).collect();
        interactive::run(&task, interactive::pairs(&images, "text", &asked), Format::of(self.json)).await
    }
}
