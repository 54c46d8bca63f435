//! `blip-serve models`.

mod report;

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use blip_server::{
    config::{ModelChoice, units::parse_seconds},
    serve::exit::Exit,
};
use clap::{Args, Subcommand};
use proto::{
    GetModelRequest, ListModelsRequest, LoadModelRequest, UnloadModelRequest,
    admin_service_client::AdminServiceClient,
};
use tonic::{Response, Status};

use crate::{
    commands::models::report::{details, json, table},
    connection::{ConnectionArgs, RpcClient, describe_status},
};

/// List, load and unload the models of a running server
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve models list
  blip-serve models load caption=Salesforce/blip-image-captioning-base
  blip-serve models unload caption
The server must have been started with --admin to load and unload models.")]
pub(crate) struct ModelsCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(ListCommand),
    Show(ShowCommand),
    Load(Box<LoadCommand>),
    Unload(UnloadCommand),
}

/// List the models
#[derive(Args, Debug)]
struct ListCommand {
    #[command(flatten)]
    call: CallArgs,
}

/// Show a model
#[derive(Args, Debug)]
struct ShowCommand {
    /// Name of the model [default: the first model]
    #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,

    #[command(flatten)]
    call: CallArgs,
}

/// Load a model, or replace the model of that name
///
/// The command ends when the model serves. The model that it replaces serves until then.
#[derive(Args, Debug)]
struct LoadCommand {
    /// Model: demo, a folder below --model-dir of the server, or a name on the hub
    ///
    /// NAME is the name in requests. The default is the last part of the source.
    #[arg(value_name = "[NAME=]SOURCE")]
    model: ModelChoice,

    /// Device, as serve --device [default: that of the server]
    #[arg(long, value_name = "DEVICE", default_value = "", hide_default_value = true)]
    device: String,

    /// Number format, as serve --dtype [default: that of the server]
    #[arg(long, value_name = "DTYPE", default_value = "", hide_default_value = true)]
    dtype: String,

    /// Conventions, as serve --conventions [default: those of the server]
    #[arg(long, value_name = "CONVENTIONS", default_value = "", hide_default_value = true)]
    conventions: String,

    #[command(flatten)]
    call: CallArgs,
}

/// Unload a model
///
/// The server completes the requests in flight. It always has at least one model.
#[derive(Args, Debug)]
struct UnloadCommand {
    /// Name of the model
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    call: CallArgs,
}

/// The output, the time limit and the server of a call.
#[derive(Args, Debug)]
struct CallArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Time limit of the call, in seconds or with a unit [default: none]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout_s: Option<Duration>,

    #[command(flatten)]
    connection: ConnectionArgs,
}

impl ModelsCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let text = match self.action {
            Action::List(command) => command.run().await,
            Action::Show(command) => command.run().await,
            Action::Load(command) => command.run().await,
            Action::Unload(command) => command.run().await,
        }?;
        std::io::stdout().write_all(text.as_bytes()).context("cannot print")?;
        Ok(Exit::Clean)
    }
}

impl ListCommand {
    async fn run(self) -> anyhow::Result<String> {
        let client = self.call.client().await?;
        let models = result(client.stub().list_models(client.request(ListModelsRequest {})).await)?.models;
        Ok(if self.call.json { models.iter().map(json).collect() } else { table(&models) })
    }
}

impl ShowCommand {
    async fn run(self) -> anyhow::Result<String> {
        let client = self.call.client().await?;
        let model =
            result(client.stub().get_model(client.request(GetModelRequest { name: self.name })).await)?;
        Ok(if self.call.json { json(&model) } else { details(&model) })
    }
}

impl LoadCommand {
    async fn run(self) -> anyhow::Result<String> {
        let client = self.call.client().await?;
        let request = LoadModelRequest {
            name: self.model.name().to_string(),
            source: self.model.source,
            device: self.device,
            dtype: self.dtype,
            flavour: self.conventions,
        };
        let mut admin = AdminServiceClient::new(client.channel());
        let model = result(admin.load_model(client.request(request)).await)?;
        Ok(if self.call.json { json(&model) } else { details(&model) })
    }
}

impl UnloadCommand {
    async fn run(self) -> anyhow::Result<String> {
        let client = self.call.client().await?;
        let mut admin = AdminServiceClient::new(client.channel());
        let request = UnloadModelRequest { name: self.name.clone() };
        result(admin.unload_model(client.request(request)).await)?;
        Ok(if self.call.json { String::new() } else { format!("{} unloaded\n", self.name) })
    }
}

impl CallArgs {
    async fn client(&self) -> anyhow::Result<RpcClient> {
        self.connection.client(self.timeout_s).await
    }
}

fn result<T>(response: Result<Response<T>, Status>) -> anyhow::Result<T> {
    response.map(Response::into_inner).map_err(|status| anyhow::anyhow!(describe_status(&status)))
}
