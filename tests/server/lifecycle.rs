//! The phases of a server: loading, serving, draining, stopped.

use std::sync::mpsc;

use blip_server::{config::Settings, serve::exit::Exit};
use futures::StreamExt as _;
use scheduler::{EngineError, EngineErrorKind};
use tokio::sync::oneshot;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::support::{
    ScriptedEngine, Server, ask, ask_request, echo_answer, echo_engine, item_error, loaded_model,
    scripted_engine, test_image,
};

const SERVICES: [&str; 2] = ["", "blip.v1.BlipService"];

async fn health(server: &Server, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(server.channel().await).check(request).await.unwrap().into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_server_reports_not_serving_and_refuses_calls() {
    let (finish, finish_receiver) = oneshot::channel::<()>();
    let (ready, ready_receiver) = oneshot::channel();
    let settings = Settings::default();
    let load = {
        let settings = settings.clone();
        async move {
            finish_receiver.await?;
            loaded_model(settings, echo_engine()).await
        }
    };
    let server = Server::launch(settings, load, move || ready.send(()).unwrap()).await;
    for service in SERVICES {
        assert_eq!(health(&server, service).await, ServingStatus::NotServing);
    }
    let request = ask_request(&[(&test_image(), &["red"])]);
    let status = server.client().await.ask(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "MODEL_LOADING");
    finish.send(()).unwrap();
    ready_receiver.await.unwrap();
    for service in SERVICES {
        assert_eq!(health(&server, service).await, ServingStatus::Serving);
    }
    assert_eq!(item_error(&ask(&mut server.client().await, request).await[0]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_load_ends_server_with_its_cause() {
    let load = async {
        Err::<blip_server::models::loaded_model::LoadedModel<ScriptedEngine>, _>(anyhow::anyhow!(
            "no weights"
        ))
    };
    let server = Server::launch(Settings::default(), load, || ()).await;
    assert_eq!(server.exit().await.unwrap_err().to_string(), "no weights");
}

/// Returns an engine that answers each batch after a message or a hang-up of the sender.
///
/// The receiver reports the start of each batch.
fn paused_engine() -> (scheduler::EngineFactory<ScriptedEngine>, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (proceed, proceed_receiver) = mpsc::channel();
    let (running, running_receiver) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        let _ = running.send(());
        let _ = proceed_receiver.recv();
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    });
    (engine, proceed, running_receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_drains_calls_and_notifies_health_watchers() {
    let (engine, proceed, running_receiver) = paused_engine();
    let server = Server::start(Settings::default(), engine).await;
    let watch = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(server.channel().await).watch(watch).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut client = server.client().await;
    let request = ask_request(&[(&test_image(), &["red", "how many"])]);
    let call = tokio::spawn(async move { ask(&mut client, request).await });
    tokio::task::spawn_blocking(move || running_receiver.recv().unwrap()).await.unwrap();

    server.signal(15);
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.next().await.is_none());
    proceed.send(()).unwrap();
    drop(proceed);
    let responses = call.await.unwrap();
    assert_eq!(responses.iter().map(item_error).collect::<Vec<_>>(), [None, None]);
    assert_eq!(server.exit().await.unwrap(), Exit::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_grace_answers_calls_while_health_is_not_serving() {
    let mut settings = Settings::default();
    settings.drain.drain_grace_s = 3600;
    let server = Server::start(settings, echo_engine()).await;
    server.signal(15);
    let watch = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(server.channel().await).watch(watch).await.unwrap().into_inner();
    while watch.next().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    let responses = ask(&mut server.client().await, ask_request(&[(&test_image(), &["red"])])).await;
    assert_eq!(item_error(&responses[0]), None);
    server.signal(2);
    assert_eq!(server.exit().await.unwrap(), Exit::Signal(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_server_with_calls_in_flight() {
    let (engine, _proceed, running_receiver) = paused_engine();
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.ask(ask_request(&[(&test_image(), &["red"])])).await });
    tokio::task::spawn_blocking(move || running_receiver.recv().unwrap()).await.unwrap();
    server.signal(15);
    server.signal(15);
    assert_eq!(server.exit().await.unwrap(), Exit::Signal(15));
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn fatal_engine_error_fails_its_calls_and_ends_server() {
    let engine =
        scripted_engine(|_, _| Err(EngineError::new(EngineErrorKind::Fatal, "an illegal memory access")));
    let server = Server::start(Settings::default(), engine).await;
    let responses = ask(&mut server.client().await, ask_request(&[(&test_image(), &["red"])])).await;
    assert_eq!(item_error(&responses[0]), Some((Code::Unavailable, "ENGINE_BROKEN".to_owned())));
    assert_eq!(server.exit().await.unwrap(), Exit::EngineBroken);
}
