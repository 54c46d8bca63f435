//! What `ask`, `caption`, `match` and `embed` have in common: arguments, and the way to run a task.

use std::time::Duration;

use anyhow::Context as _;
use blip_server::{config::units::parse_seconds, serve::exit::Exit};
use bulk::Task;
use clap::Args;

use crate::{
    commands::{
        interactive::{self, RecordGroups},
        record_file::{Activity, RecordFileArgs},
    },
    connection::RpcClient,
    image_paths::{ExpandedImages, ImageArgs},
    output::ResultPrinter,
    records::ImageLoader,
    target::{DefaultModel, TargetArgs},
};

/// Maximum number of requests of a command line in flight at a server.
const MAX_IN_FLIGHT: usize = 8;

/// The arguments of all commands that send images to a server.
#[derive(Args, Debug)]
pub(crate) struct TaskArgs {
    #[command(flatten)]
    images: ImageArgs,

    /// Print one JSON object per line, errors included
    #[arg(long)]
    pub(crate) json: bool,

    /// Time limit of a call, in seconds or with a unit [default: none]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout_s: Option<Duration>,

    #[command(flatten)]
    pub(crate) target: TargetArgs,

    #[command(flatten)]
    record_file: RecordFileArgs,
}

impl TaskArgs {
    /// Runs the task on the record file or on the images. Entries of folders that cannot be read
    /// are printed first.
    ///
    /// `to_groups` makes records of the images, one group for each request. `to_task` creates the
    /// task.
    pub(crate) async fn run<'a, T: Task>(
        self,
        activity: Activity,
        default_model: DefaultModel,
        variables: &[String],
        printer: &ResultPrinter,
        to_groups: impl FnOnce(Vec<String>) -> RecordGroups<'a>,
        to_task: impl FnOnce(RpcClient, ImageLoader) -> T,
    ) -> anyhow::Result<Exit> {
        let Self { images, timeout_s, target, record_file, .. } = self;
        if record_file.is_given() {
            return target
                .run(timeout_s, default_model, variables, async |client| {
                    let task = to_task(client, record_file.image_loader());
                    record_file.run(&task, activity).await
                })
                .await;
        }
        let ExpandedImages { images, unreadable } = images.expand()?;
        let groups = to_groups(images);
        anyhow::ensure!(groups.count > 0 || !unreadable.is_empty(), "{}", activity.nothing_given);
        for fields in &unreadable {
            printer.print_result(fields).context("cannot print")?;
        }
        let mut exit = Exit::Clean;
        if groups.count > 0 {
            // An engine in this process needs more requests than a server that has other clients.
            let max_in_flight = if target.is_local() { record_file.max_in_flight() } else { MAX_IN_FLIGHT };
            exit = target
                .run(timeout_s, default_model, variables, async |client| {
                    let task = to_task(client, ImageLoader::default());
                    if record_file.has_output() {
                        record_file.run_groups(&task, activity, groups).await
                    } else {
                        interactive::run(&task, groups, printer, max_in_flight).await
                    }
                })
                .await?;
        }
        Ok(if exit == Exit::Clean && !unreadable.is_empty() { Exit::Failed } else { exit })
    }
}
