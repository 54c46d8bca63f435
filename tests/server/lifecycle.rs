//! A server's life: not serving, serving, draining, gone.

use std::sync::mpsc;

use futures::StreamExt as _;
use scheduler::{EngineError, EngineErrorKind};
use server::{config::Settings, serve::exit::Exit};
use tokio::sync::oneshot;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::support::{
    ScriptedEngine, Server, ask, echo, echo_of, picture, pipeline, refusal, request, scripted,
};

const SERVICES: [&str; 2] = ["", "blip.v1.BlipService"];

async fn health(server: &Server, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(server.channel().await).check(request).await.unwrap().into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_model_is_loaded_health_says_so_and_calls_are_told_to_wait() {
    let (finish, finished) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    let settings = Settings::default();
    let load = {
        let settings = settings.clone();
        async move {
            finished.await?;
            pipeline(settings, echo()).await
        }
    };
    let server = Server::launch(settings, load, move || ready.send(()).unwrap()).await;
    for service in SERVICES {
        assert_eq!(health(&server, service).await, ServingStatus::NotServing);
    }
    let asked = request(&[(&picture(), &["red"])]);
    let status = server.client().await.ask(asked.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "MODEL_LOADING");
    finish.send(()).unwrap();
    is_ready.await.unwrap();
    for service in SERVICES {
        assert_eq!(health(&server, service).await, ServingStatus::Serving);
    }
    assert_eq!(refusal(&ask(&mut server.client().await, asked).await[0]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_load_ends_the_server_with_the_reason() {
    let load = async {
        Err::<server::models::loaded_model::LoadedModel<ScriptedEngine>, _>(anyhow::anyhow!("no weights"))
    };
    let server = Server::launch(Settings::default(), load, || ()).await;
    assert_eq!(server.ended().await.unwrap_err().to_string(), "no weights");
}

/// An engine that answers its first batch when told to, with the test's ends of both channels.
fn held() -> (scheduler::EngineFactory<ScriptedEngine>, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (proceed, may_proceed) = mpsc::channel();
    let (running, is_running) = mpsc::channel();
    let engine = scripted(move |batch, rows| {
        let _ = running.send(());
        let _ = may_proceed.recv();
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_of(batch, row)));
        }
        Ok(())
    });
    (engine, proceed, is_running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_what_is_in_flight_and_tells_who_watches() {
    let (engine, proceed, is_running) = held();
    let server = Server::start(Settings::default(), engine).await;
    let watch = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(server.channel().await).watch(watch).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut client = server.client().await;
    let asked = request(&[(&picture(), &["red", "how many"])]);
    let call = tokio::spawn(async move { ask(&mut client, asked).await });
    tokio::task::spawn_blocking(move || is_running.recv().unwrap()).await.unwrap();

    server.signal(15);
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.next().await.is_none());
    proceed.send(()).unwrap();
    drop(proceed);
    let responses = call.await.unwrap();
    assert_eq!(responses.iter().map(refusal).collect::<Vec<_>>(), [None, None]);
    assert_eq!(server.ended().await.unwrap(), Exit::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_grace_of_a_drain_calls_are_still_answered_while_health_says_not_serving() {
    let mut settings = Settings::default();
    settings.drain.drain_grace_s = 3600;
    let server = Server::start(settings, echo()).await;
    server.signal(15);
    let watch = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(server.channel().await).watch(watch).await.unwrap().into_inner();
    while watch.next().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    let responses = ask(&mut server.client().await, request(&[(&picture(), &["red"])])).await;
    assert_eq!(refusal(&responses[0]), None);
    server.signal(2);
    assert_eq!(server.ended().await.unwrap(), Exit::Signal(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_server_with_calls_in_flight() {
    let (engine, _proceed, is_running) = held();
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.ask(request(&[(&picture(), &["red"])])).await });
    tokio::task::spawn_blocking(move || is_running.recv().unwrap()).await.unwrap();
    server.signal(15);
    server.signal(15);
    assert_eq!(server.ended().await.unwrap(), Exit::Signal(15));
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_engine_fails_what_it_holds_and_ends_the_server() {
    let engine = scripted(|_, _| Err(EngineError::new(EngineErrorKind::Fatal, "an illegal memory access")));
    let server = Server::start(Settings::default(), engine).await;
    let responses = ask(&mut server.client().await, request(&[(&picture(), &["red"])])).await;
    assert_eq!(refusal(&responses[0]), Some((Code::Unavailable, "ENGINE_BROKEN".to_owned())));
    assert_eq!(server.ended().await.unwrap(), Exit::EngineBroken);
}
