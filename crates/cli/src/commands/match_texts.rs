//! `blip-serve match`.

use blip_server::serve::exit::Exit;
use bulk::Fields;
use clap::Args;
use proto::MatchRequest;

use crate::{
    commands::{interactive, record_file::Activity, task_args::TaskArgs},
    output::ResultPrinter,
    records::MatchTask,
    target::DefaultModel,
};

/// Score how well texts describe images
///
/// A running server compares every text with every image, or with --local a model in this process.
/// With --input the command processes a record file. A record has the fields image and text.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve match cat.jpg -t \"a cat\" -t \"a dog\"
  blip-serve match -i pairs.jsonl -o scores.jsonl
  blip-serve match -i shards/ -o scored/ --local                 images with their .txt")]
pub(crate) struct MatchCommand {
    /// Text; repeatable. With --input, the text of records without one
    #[arg(short = 't', long = "text", value_name = "TEXT", required_unless_present = "input")]
    texts: Vec<String>,

    #[command(flatten)]
    task: TaskArgs,
}

const ACTIVITY: Activity = Activity {
    name: "matching",
    columns: &["id", "image", "text", "probability", "cosine", "error"],
    nothing_given: "no image: expected a file, a folder, a URL or --input",
    request_field: "text",
    column_fields: &["text"],
    text_field: None,
    default_model: DefaultModel::Match,
};

impl MatchCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        let texts: Vec<Fields> = self.texts.iter().map(|text| interactive::record("text", text)).collect();
        let request = MatchRequest {
            model: self.task.target.model_name(),
            priority: self.task.target.priority(),
            ..MatchRequest::default()
        };
        let printer = ResultPrinter::new(self.task.json, false);
        let to_groups = |images| interactive::groups_by_image(images, "text", &texts);
        let to_task = |client, images| MatchTask { client, images, request };
        self.task.run(ACTIVITY, variables, &printer, &texts, to_groups, to_task).await
    }
}
