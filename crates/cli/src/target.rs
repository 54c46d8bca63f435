//! Where a client command sends its requests: a running server, or an engine in its process.

use std::time::Duration;

use blip_server::{config::SettingsError, priority::RequestPriority, serve::exit::Exit};
use clap::Args;
use tonic::{Request, metadata::MetadataMap};

use crate::{
    connection::{ConnectionArgs, RpcClient},
    local::{LocalArgs, run_with_engine},
};

/// The models of a task that an engine loads if no option names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DefaultModel {
    /// Answers questions.
    Ask,
    /// Writes captions.
    Caption,
    /// Compares images with texts.
    Match,
    /// Two models: one writes captions, the other compares images with texts.
    CaptionAndMatch,
}

impl DefaultModel {
    /// Returns the name of the embedded model, or the names of both with a comma between them.
    fn name(self) -> &'static str {
        match self {
            Self::Ask => "demo",
            Self::Caption => "demo-caption",
            Self::Match => "demo-match",
            Self::CaptionAndMatch => "demo-caption,demo-match",
        }
    }
}

/// The server or the engine, its model, and the priority of requests.
#[derive(Args, Debug)]
pub(crate) struct TargetArgs {
    /// Name of a model of the server, or the source of a model to load in this process
    ///
    /// With --server, it is the name of a model of that server. Otherwise the command loads it, as
    /// serve --model does: demo, a folder, a .pth file, or a name on the Hugging Face hub.
    ///
    /// [default: the first model of the server for the task; with --local, the demo model for it]
    #[arg(short, long, value_name = "NAME|SOURCE")]
    model: Option<String>,

    /// The model that compares images with texts, of a command for which `model` writes captions.
    #[arg(skip)]
    pub(crate) match_model: Option<String>,

    /// Priority of the requests, limited by that of the API key
    #[arg(long, value_enum, default_value_t = RequestPriority::Normal)]
    priority: RequestPriority,

    #[command(flatten)]
    connection: ConnectionArgs,

    #[command(flatten)]
    local: LocalArgs,
}

impl TargetArgs {
    /// Returns whether the command loads a model in its process.
    pub(crate) fn is_local(&self) -> bool {
        let is_model_given = self.model.is_some() || self.match_model.is_some();
        self.local.local || (is_model_given && self.connection.server.is_none())
    }

    /// Returns the name of the model in requests. Empty for the first model for the task.
    pub(crate) fn model_name(&self) -> String {
        self.request_name(self.model.as_ref())
    }

    /// Returns the name of `match_model` in requests. Empty for the first model for the task.
    pub(crate) fn match_model_name(&self) -> String {
        self.request_name(self.match_model.as_ref())
    }

    fn request_name(&self, model: Option<&String>) -> String {
        if self.is_local() { String::new() } else { model.cloned().unwrap_or_default() }
    }

    /// Returns the priority in the encoding of the contract.
    pub(crate) fn priority(&self) -> i32 {
        proto::Priority::from(self.priority).into()
    }

    /// Runs `command` with a client of the server or of an engine in this process. The time limit
    /// of each call is `timeout`.
    ///
    /// `variables` are the environment variables of the program that are not settings.
    pub(crate) async fn run(
        &self,
        timeout: Option<Duration>,
        default_model: DefaultModel,
        variables: &[String],
        command: impl AsyncFnOnce(RpcClient) -> anyhow::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        self.check()?;
        if !self.is_local() {
            return command(self.connection.client(timeout).await?).await;
        }
        let sources = self.sources(default_model)?;
        let settings =
            self.local.engine.settings(sources.as_deref(), default_model.name(), &[], variables)?;
        let mut metadata = Request::new(());
        if let Some(timeout) = timeout {
            metadata.set_timeout(timeout);
        }
        let metadata: MetadataMap = metadata.into_parts().0;
        let model = self.model.as_deref().filter(|_| !self.local.local);
        let advice = model.map(|model| format!("to use the model {model:?} of a server, add --server"));
        run_with_engine(&settings, advice.as_deref(), async |channel| {
            command(RpcClient::new(channel, metadata)).await
        })
        .await
    }

    /// Returns the sources of the models to load that options name, as one text.
    fn sources(&self, default_model: DefaultModel) -> Result<Option<String>, SettingsError> {
        match (default_model, &self.model, &self.match_model) {
            (DefaultModel::CaptionAndMatch, Some(caption), Some(matching)) => {
                Ok(Some(format!("{caption},{matching}")))
            }
            // Demo models beside others would give meaningless results.
            (DefaultModel::CaptionAndMatch, Some(_), None) | (_, None, Some(_)) => {
                Err(SettingsError::Conflict(
                    "one of --caption-model and --match-model is missing: name both, or none for the demo \
                     models"
                        .to_owned(),
                ))
            }
            (_, model, _) => Ok(model.clone()),
        }
    }

    /// Checks that the options fit together.
    fn check(&self) -> Result<(), SettingsError> {
        let conflict = |message: String| Err(SettingsError::Conflict(message));
        match (self.is_local(), self.local.engine.first_option()) {
            (true, _) if self.connection.is_server_named() => {
                conflict("--local loads the model in this process: omit --server".to_owned())
            }
            (false, Some(option)) => conflict(format!(
                "--{option} is an option of the engine in this process: add --local, or omit it"
            )),
            _ => Ok(()),
        }
    }
}
