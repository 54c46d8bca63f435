//! What `ask`, `caption`, `match` and `embed` have in common: arguments, and the way to run a task.

use std::time::Duration;

use anyhow::Context as _;
use blip_server::serve::exit::Exit;
use bulk::{Fields, Task};
use clap::Args;

use crate::{
    commands::{
        interactive,
        record_file::{Activity, RecordFileArgs},
    },
    connection::{ConnectionArgs, RpcClient},
    image_paths::{ExpandedImages, ImageArgs},
    output::ResultPrinter,
    records::ImageLoader,
    request_args::ModelArgs,
};

/// The arguments of all commands that send images to a server.
#[derive(Args, Debug)]
pub(crate) struct TaskArgs {
    #[command(flatten)]
    images: ImageArgs,

    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Print one JSON object per line, errors included
    #[arg(long)]
    pub(crate) json: bool,

    /// Time limit of a call in seconds [default: none]
    #[arg(long, value_name = "SECONDS")]
    timeout_s: Option<u64>,

    #[command(flatten)]
    record_file: RecordFileArgs,

    #[command(flatten)]
    connection: ConnectionArgs,
}

impl TaskArgs {
    /// Connects to the server, and runs the task on the record file or on the images. Entries of
    /// folders that cannot be read are printed first.
    ///
    /// `to_groups` makes records of the images, one group for each request. `to_task` creates the
    /// task.
    pub(crate) async fn run<T: Task>(
        self,
        activity: Activity,
        printer: &ResultPrinter,
        to_groups: impl FnOnce(&[String]) -> Vec<Vec<Fields>>,
        to_task: impl FnOnce(RpcClient, ImageLoader) -> T,
    ) -> anyhow::Result<Exit> {
        let timeout = self.timeout_s.map(Duration::from_secs);
        if self.record_file.is_given() {
            let client = self.connection.client(timeout).await?;
            let task = to_task(client, self.record_file.image_loader());
            return self.record_file.run(&task, activity).await;
        }
        let ExpandedImages { images, unreadable } = self.images.expand()?;
        let groups = to_groups(&images);
        let is_empty = groups.iter().all(Vec::is_empty);
        anyhow::ensure!(!is_empty || !unreadable.is_empty(), "{}", activity.nothing_given);
        for fields in &unreadable {
            printer.print_result(fields).context("cannot print")?;
        }
        let mut exit = Exit::Clean;
        if !is_empty {
            let client = self.connection.client(timeout).await?;
            let task = to_task(client, self.record_file.image_loader());
            exit = interactive::run(&task, groups, printer).await?;
        }
        Ok(if exit == Exit::Clean && !unreadable.is_empty() { Exit::Failed } else { exit })
    }
}
