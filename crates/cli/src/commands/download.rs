//! `blip-serve download`.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use hub::RepositoryName;
use server::{models::source::download, serve::exit::Exit};

/// Download a model from the hub, and print the folder that it is in.
///
/// Fills the cache ahead of `serve --model`, which finds the model there. The cache is that of all tools of Hugging Face: see
/// HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE. A download that was cut short goes on where it stopped.
#[derive(Args, Debug)]
pub struct DownloadCommand {
    /// The model's name on the hub, such as Salesforce/blip-vqa-base, and a branch, tag or commit behind an @
    #[arg(value_name = "ORG/NAME[@REVISION]")]
    model: RepositoryName,
}

impl DownloadCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let snapshot = download(&self.model).await?;
        writeln!(std::io::stdout(), "{}", snapshot.folder.display()).context("cannot print")?;
        Ok(Exit::Clean)
    }
}
