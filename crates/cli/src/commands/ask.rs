//! `blip-serve ask`.

use blip_server::{request::generation::GenerationOptions, serve::exit::Exit};
use bulk::Fields;
use clap::Args;
use proto::AskRequest;
use serde_json::json;

use crate::{
    commands::{interactive, record_file::Activity, task_args::TaskArgs},
    output::ResultPrinter,
    records::AskTask,
    request_args::generation_message,
    target::DefaultModel,
};

/// Ask questions about images
///
/// A running server answers every question about every image, or with --local a model in this
/// process. The command prints answers as they arrive, in any order. With --input it processes a
/// record file instead. A record has the fields image and question, and optionally candidates or
/// candidate_list.
#[derive(Args, Debug)]
#[command(
    mut_arg("timeout_s", |argument| argument.conflicts_with("input")),
    after_help = "Examples:
  blip-serve ask cat.jpg -q \"what colour is the cat?\"
  blip-serve ask https://example.org/cat.jpg -q \"is it asleep?\" --candidates yes,no
  blip-serve ask a.png b.png -q \"is it red?\" -q \"how many?\" --json
  blip-serve ask cat.jpg -q \"how many cats?\" --model Salesforce/blip-vqa-base   without a server
  blip-serve ask photos/ -q \"is there a dog?\" --local -o answers.jsonl --resume
  blip-serve ask -i questions.jsonl -o answers.jsonl
  blip-serve ask -i 'shard-{000..127}.tar' -q \"is there a dog?\" --local -o answered/"
)]
pub(crate) struct AskCommand {
    /// Question; repeatable. With --input, the question of records without one
    #[arg(short = 'q', long = "question", value_name = "TEXT", required_unless_present = "input")]
    questions: Vec<String>,

    /// Allowed answers, separated by commas
    #[arg(
        long,
        value_name = "ANSWER,...",
        value_delimiter = ',',
        conflicts_with = "candidate_list",
        requires = "questions"
    )]
    candidates: Vec<String>,

    /// Name of a list of allowed answers on the server
    #[arg(long, value_name = "NAME", requires = "questions")]
    candidate_list: Option<String>,

    #[command(flatten)]
    task: TaskArgs,

    #[command(flatten)]
    generation: GenerationOptions,
}

const ACTIVITY: Activity = Activity {
    name: "asking",
    columns: &["id", "image", "question", "answer", "score", "margin", "probability", "error"],
    nothing_given: "no image: expected a file, a folder, a URL or --input",
    request_field: "question",
    column_fields: &["question", "candidates", "candidate_list"],
    text_field: None,
    default_model: DefaultModel::Ask,
};

impl AskCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        let questions: Vec<Fields> = self.questions.iter().map(|question| self.record(question)).collect();
        let request = AskRequest {
            model: self.task.target.model_name(),
            priority: self.task.target.priority(),
            generation: generation_message(self.generation),
            ..AskRequest::default()
        };
        let printer = ResultPrinter::new(self.task.json, false);
        let to_groups = |images| interactive::groups_by_image(images, "question", &questions);
        let to_task = |client, images| AskTask::new(client, images, request);
        self.task.run(ACTIVITY, variables, &printer, &questions, to_groups, to_task).await
    }

    fn record(&self, question: &str) -> Fields {
        let mut record = interactive::record("question", question);
        if !self.candidates.is_empty() {
            record.insert("candidates".to_owned(), json!(self.candidates));
        }
        if let Some(list) = &self.candidate_list {
            record.insert("candidate_list".to_owned(), json!(list));
        }
        record
    }
}
