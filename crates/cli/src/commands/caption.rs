//! `blip-serve caption`.

use std::sync::Arc;

use bulk::Fields;
use clap::Args;
use proto::CaptionRequest;
use serde_json::json;
use server::{request::generation::GenerationOptions, serve::exit::Exit};

use crate::{
    commands::{interactive, record_file::BulkOptions},
    connection::ConnectionOptions,
    request_args::{ModelArgs, generation_message},
    image_paths::ImageOptions,
    output::{Format, PieceByPiece},
    records::Captioning,
};

/// Have a running server describe images.
///
/// Or a file of images is worked through: lines of image, and prompt if there is one.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve caption photos/*.jpg
  blip-serve caption cat.jpg --prompt \"a picture of\" --num-beams 3
  blip-serve caption cat.jpg --stream
  blip-serve caption --input images.csv --output captions.csv")]
pub struct CaptionCommand {
    #[command(flatten)]
    images: ImageOptions,

    /// What captions begin with; may be given several times, for as many captions of each image
    #[arg(long = "prompt", value_name = "TEXT", conflicts_with = "input")]
    prompts: Vec<String>,

    /// Print captions word by word as they are written, one image after the other
    #[arg(long, conflicts_with_all = ["input", "num_beams"])]
    stream: bool,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    generation: GenerationOptions,

    #[command(flatten)]
    bulk: BulkOptions,

    #[command(flatten)]
    connection: ConnectionOptions,

    /// Print one JSON object a line, errors and pieces too
    #[arg(long)]
    json: bool,

    /// When to give up on an image, in seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    timeout_s: Option<u64>,
}

/// Columns of a CSV file of captions.
const COLUMNS: [&str; 7] = ["id", "image", "prompt", "caption", "score", "margin", "error"];

impl CaptionCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let images = if self.bulk.is_wanted() { Vec::new() } else { self.images.expanded()? };
        let format = Format::of(self.json);
        let printed = Arc::new(PieceByPiece::new(format));
        let task = Captioning {
            template: self.connection.template(self.timeout_s)?,
            channel: self.connection.connect().await?,
            pictures: self.bulk.pictures(),
            request: CaptionRequest {
                model: self.model.model.clone(),
                priority: self.model.priority(),
                generation: generation_message(self.generation),
                stream_tokens: self.stream,
                ..CaptionRequest::default()
            },
            // Whoever reads the pieces may have gone; the caption itself then cannot be printed, which is told.
            piece: self.stream.then(|| {
                let printed = Arc::clone(&printed);
                let print = move |fields: &Fields, piece: &str| drop(printed.piece(fields, piece));
                Box::new(print) as _
            }),
        };
        if self.bulk.is_wanted() {
            return self.bulk.run(&task, "describing", &COLUMNS).await;
        }
        let mut asked: Vec<Fields> = self
            .prompts
            .iter()
            .map(|prompt| [("prompt".to_owned(), json!(prompt))].into_iter().collect())
            .collect();
        if asked.is_empty() {
            asked.push(Fields::new());
        }
        let lots = interactive::pairs(&images, "prompt", &asked);
        if self.stream {
            interactive::run_streamed(&task, lots, &printed).await
        } else {
            interactive::run(&task, lots, format).await
        }
    }
}
