//! What the commands that run a task have in common: arguments, and the way to run it.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use blip_server::{config::units::parse_seconds, serve::exit::Exit};
use bulk::{Fields, Task};
use clap::Args;

use crate::{
    commands::{
        interactive::{self, RecordGroups},
        record_file::{Activity, OutputFiles, RecordFileArgs, TextFiles, print_shards},
    },
    connection::RpcClient,
    image_paths::{ExpandedImages, ImageArgs},
    output::ResultPrinter,
    records::ImageLoader,
    target::TargetArgs,
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
    /// Returns whether the input is shards.
    pub(crate) fn has_shards(&self) -> bool {
        self.record_file.has_shards()
    }

    /// Returns whether `path` is the input.
    pub(crate) fn has_input(&self, path: &Path) -> bool {
        self.record_file.has_input(path)
    }

    /// Returns the files of the results, or `None` if they go to standard output.
    pub(crate) fn output_files(&self, activity: Activity) -> anyhow::Result<Option<OutputFiles>> {
        self.record_file.output_files(activity)
    }

    /// Runs the task on the record file or on the images. Entries of folders that cannot be read
    /// are printed first.
    ///
    /// `texts` are the texts of the command line, as fields. A record file has its own: one text is
    /// that of records without one. `to_groups` makes records of the images, one group for each
    /// request. `to_task` creates the task.
    pub(crate) async fn run<'a, T: Task>(
        self,
        activity: Activity,
        variables: &[String],
        printer: &ResultPrinter,
        texts: &[Fields],
        to_groups: impl FnOnce(Vec<String>) -> RecordGroups<'a>,
        to_task: impl FnOnce(RpcClient, ImageLoader) -> T,
    ) -> anyhow::Result<Exit> {
        let Self { images, json, timeout_s, target, record_file } = self;
        record_file.check(json)?;
        if record_file.is_given() {
            anyhow::ensure!(
                texts.len() <= 1,
                "{} texts with --input: at most one allowed, for the records without a text",
                texts.len()
            );
            let defaults = texts.first().cloned().unwrap_or_default();
            let shards = record_file.shards()?;
            if let Some(files) = shards.as_ref().filter(|files| files.is_empty()) {
                print_shards(0, files.complete, 0);
                return Ok(Exit::Clean);
            }
            return target
                .run(timeout_s, activity.default_model, variables, async |client| {
                    let task = to_task(client, record_file.image_loader());
                    record_file.run(&task, activity, defaults, shards).await
                })
                .await;
        }
        let image_folders = images.folders();
        let ExpandedImages { mut images, unreadable } = images.expand()?;
        let is_nothing_given = images.is_empty() && unreadable.is_empty();
        let mut text_files = None;
        if let Some(folder) = record_file.output_folder()? {
            let Some(field) = activity.text_field.filter(|_| texts.len() == 1) else {
                anyhow::bail!("--output is a folder, for one caption of each image: expected a file");
            };
            let files = TextFiles { folder, image_folders, field, printer };
            images = files.select(images, record_file.existing())?;
            text_files = Some(files);
        }
        let groups = to_groups(images);
        anyhow::ensure!(groups.count > 0 || !is_nothing_given, "{}", activity.nothing_given);
        for fields in &unreadable {
            printer.print_result(fields).context("cannot print")?;
        }
        let mut exit = Exit::Clean;
        if groups.count > 0 {
            // An engine in this process needs more requests than a server that has other clients.
            let max_in_flight = if target.is_local() { record_file.max_in_flight() } else { MAX_IN_FLIGHT };
            exit = target
                .run(timeout_s, activity.default_model, variables, async |client| {
                    let task = to_task(client, ImageLoader::default());
                    if let Some(mut files) = text_files {
                        record_file.run_text_files(&task, activity, groups, &mut files).await
                    } else if record_file.has_output() {
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
