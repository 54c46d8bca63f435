//! Several models in one server, which change while the server answers calls.

mod admin;
mod changes;
mod requests;

use std::sync::{Arc, Mutex};

use blip::{Architecture, RowOutput};
use blip_server::{
    config::Settings,
    lifecycle::manager::LoadModelFn,
    models::{info::ModelInfo, spec::ModelSpec},
};
use futures::FutureExt as _;
use proto::{
    AskRequest, ListModelsRequest, LoadModelRequest, UnloadModelRequest,
    admin_service_client::AdminServiceClient, ask_response::Outcome, blip_service_client::BlipServiceClient,
};
use scheduler::EngineFactory;
use tokio::sync::oneshot;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{
    ScriptedEngine, Server, ask, ask_request, echo_answer, loaded_model_named, scripted_engine, test_image,
};

/// Returns an engine whose answers have the score `mark`. It calls `before` ahead of each batch.
fn marked_engine_with(mark: f32, mut before: impl FnMut() + Send + 'static) -> EngineFactory<ScriptedEngine> {
    scripted_engine(move |batch, rows| {
        before();
        for row in 0..batch.questions.len() {
            let mut answer = echo_answer(batch, row);
            let RowOutput::Generated(sequences) = &mut answer.answer.output else { unreachable!() };
            sequences[0].score = mark;
            rows.finish(row, Ok(answer));
        }
        Ok(())
    })
}

fn marked_engine(mark: f32) -> EngineFactory<ScriptedEngine> {
    marked_engine_with(mark, || ())
}

/// Returns a loader of models with the engines that `engine` returns.
///
/// Models whose names begin with "caption" write captions.
fn loader<F, R>(engine: F) -> LoadModelFn<ScriptedEngine>
where
    F: Fn(ModelSpec) -> R + Send + Sync + 'static,
    R: Future<Output = anyhow::Result<EngineFactory<ScriptedEngine>>> + Send + 'static,
{
    Arc::new(move |spec| {
        let (name, engine) = (Arc::clone(&spec.name), engine(spec));
        async move {
            let mut model = loaded_model_named(&name, Settings::default(), engine.await?).await?;
            if name.starts_with("caption") {
                let architecture = Architecture::Captioning;
                let info = ModelInfo { architecture, ..(*model.info).clone() };
                model.info = Arc::new(info);
            }
            Ok(model)
        }
        .boxed()
    })
}

/// Returns a loader whose models are marked 1, 2, 3 in the order of their loads.
fn numbering_loader() -> LoadModelFn<ScriptedEngine> {
    let loaded = Mutex::new(0.0);
    loader(move |_| {
        let mut loaded = loaded.lock().unwrap();
        *loaded += 1.0;
        std::future::ready(Ok(marked_engine(*loaded)))
    })
}

/// Returns settings with these models, administration and no self-test.
fn settings(models: &[&str]) -> Settings {
    let mut settings = Settings::default();
    settings.model.models = models.iter().map(|model| model.parse().unwrap()).collect();
    settings.admin.admin = true;
    settings.self_test.self_test_idle_s = 0;
    settings
}

async fn start(settings: Settings, loader: LoadModelFn<ScriptedEngine>) -> Server {
    let (ready, ready_receiver) = oneshot::channel();
    let server = Server::launch_with_loader(settings, loader, move || ready.send(()).unwrap()).await;
    ready_receiver.await.unwrap();
    server
}

async fn admin(server: &Server) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(server.channel().await)
}

fn load_request(name: &str) -> LoadModelRequest {
    LoadModelRequest { name: name.into(), source: "demo".into(), ..LoadModelRequest::default() }
}

fn unload_request(name: &str) -> UnloadModelRequest {
    UnloadModelRequest { name: name.into() }
}

fn request_to(model: &str) -> AskRequest {
    AskRequest { model: model.into(), ..ask_request(&[(&test_image(), &["red"])]) }
}

/// Returns the mark of the model that answers.
async fn mark(client: &mut BlipServiceClient<Channel>, model: &str) -> f32 {
    let responses = ask(client, request_to(model)).await;
    match responses[0].outcome.as_ref().unwrap() {
        Outcome::Answer(answer) => answer.score,
        Outcome::Error(error) => panic!("{}", error.message),
    }
}

/// Returns the error of a call that the server refuses.
async fn call_error(client: &mut BlipServiceClient<Channel>, model: &str) -> (Code, String, String) {
    status_error(&client.ask(request_to(model)).await.unwrap_err())
}

fn status_error(status: &Status) -> (Code, String, String) {
    (status.code(), status.get_details_error_info().unwrap().reason, status.message().to_owned())
}

async fn names(client: &mut BlipServiceClient<Channel>) -> Vec<String> {
    let models = client.list_models(ListModelsRequest {}).await.unwrap().into_inner().models;
    models.into_iter().map(|model| model.name).collect()
}
