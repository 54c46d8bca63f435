//! `blip-serve ask`.

use bulk::Fields;
use clap::Args;
use proto::AskRequest;
use serde_json::json;
use server::{request::generation::GenerationOptions, serve::exit::Exit};

use crate::{
    commands::{interactive, record_file::BulkOptions},
    connection::ConnectionOptions,
    request_args::{ModelArgs, generation_message},
    image_paths::ImageOptions,
    output::Format,
    records::Asking,
};

/// Ask a running server questions about images.
///
/// Every question is asked about every image, and answers are printed as they arrive, which is not the order of asking. Or a
/// file of questions is worked through: lines of image, question, and candidates or candidate_list if there are any.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve ask --image cat.jpg --question \"what colour is the cat?\"
  blip-serve ask --image https://example.org/cat.jpg --question \"is it asleep?\" --candidates yes,no
  blip-serve ask --image a.png --image b.png --question \"is it red?\" --question \"how many?\" --json
  blip-serve ask photos/ --question \"is there a dog?\"
  blip-serve ask --input questions.jsonl --output answers.jsonl --resume")]
pub struct AskCommand {
    #[command(flatten)]
    images: ImageOptions,

    /// A question; may be given several times
    #[arg(
        long = "question",
        value_name = "TEXT",
        required_unless_present = "input",
        conflicts_with = "input"
    )]
    questions: Vec<String>,

    /// Answers to choose from, with commas between them
    #[arg(long, value_name = "ANSWER,...", value_delimiter = ',', conflicts_with_all = ["candidate_list", "input"])]
    candidates: Vec<String>,

    /// The name of a list of answers that the server has, to choose from
    #[arg(long, value_name = "NAME", conflicts_with = "input")]
    candidate_list: Option<String>,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    generation: GenerationOptions,

    #[command(flatten)]
    bulk: BulkOptions,

    #[command(flatten)]
    connection: ConnectionOptions,

    /// Print one JSON object a line, errors too
    #[arg(long)]
    json: bool,

    /// When to give up, in seconds [default: never]
    #[arg(long, value_name = "SECONDS", conflicts_with = "input")]
    timeout_s: Option<u64>,
}

/// Columns of a CSV file of answers.
const COLUMNS: [&str; 8] = ["id", "image", "question", "answer", "score", "margin", "probability", "error"];

impl AskCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let images = if self.bulk.is_wanted() { Vec::new() } else { self.images.expanded()? };
        let request = AskRequest {
            model: self.model.model.clone(),
            priority: self.model.priority(),
            generation: generation_message(self.generation),
            ..AskRequest::default()
        };
        let template = self.connection.template(self.timeout_s)?;
        let channel = self.connection.connect().await?;
        let task = Asking::new(channel, template, self.bulk.pictures(), request);
        if self.bulk.is_wanted() {
            return self.bulk.run(&task, "asking", &COLUMNS).await;
        }
        let asked: Vec<Fields> = self.questions.iter().map(|text| self.asked(text)).collect();
        interactive::run(&task, interactive::pairs(&images, "question", &asked), Format::of(self.json)).await
    }

    fn asked(&self, question: &str) -> Fields {
        let mut fields = Fields::new();
        fields.insert("question".to_owned(), json!(question));
        if !self.candidates.is_empty() {
            fields.insert("candidates".to_owned(), json!(self.candidates));
        }
        if let Some(list) = &self.candidate_list {
            fields.insert("candidate_list".to_owned(), json!(list));
        }
        fields
    }
}
