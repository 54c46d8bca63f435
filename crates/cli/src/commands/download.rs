//! `blip-serve download`.

use std::io::Write as _;

use anyhow::Context as _;
use blip_server::{models::source::download, serve::exit::Exit};
use clap::Args;
use hub::RepositoryName;

/// Download a model from the Hugging Face hub, and print its folder
///
/// serve --model then loads the model from the cache, which all Hugging Face tools share. These
/// environment variables apply: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE. An
/// interrupted download continues where it stopped.
#[derive(Args, Debug)]
pub(crate) struct DownloadCommand {
    /// Name on the hub, such as Salesforce/blip-vqa-base
    ///
    /// The revision is a branch, a tag or a commit.
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
