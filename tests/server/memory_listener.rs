//! The server on a connection in memory, as client commands with `--local` run it.

use std::sync::{Arc, Mutex};

use blip_server::{
    config::Settings,
    listener::{Listener, MemoryConnector, memory_listener},
    serve::{self, Listeners, access::AccessPolicy, exit::Exit},
    telemetry::tracing::Tracing,
};
use futures::{FutureExt as _, channel::mpsc};
use proto::{ask_response::Outcome, blip_service_client::BlipServiceClient};
use scheduler::{EngineError, EngineErrorKind, EngineFactory};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::support::{
    ScriptedEngine, ask, ask_request, echo_engine, item_error, loaded_model, scripted_engine, test_image,
};

/// A server in memory that is ready.
struct MemoryServer {
    connector: MemoryConnector,
    stop: mpsc::UnboundedSender<i32>,
    task: JoinHandle<anyhow::Result<Exit>>,
}

impl MemoryServer {
    async fn start(engine: EngineFactory<ScriptedEngine>) -> Self {
        let mut settings = Settings::default();
        settings.self_test.self_test_idle_s = 0;
        settings.model.embedded = &[("demo", &[])];
        let (listener, connector) = memory_listener();
        let listeners = Listeners { grpc: Listener::Memory(listener), http: None, metrics: None };
        let access = AccessPolicy::new(&settings).unwrap();
        let load = Mutex::new(Some(loaded_model(settings.clone(), engine).boxed()));
        let load = Arc::new(move |_| load.lock().unwrap().take().unwrap());
        let (stop, signals) = mpsc::unbounded();
        let (ready, is_ready) = oneshot::channel();
        let task = tokio::spawn(async move {
            let announce = |_: &[_]| ready.send(()).unwrap();
            serve::serve(&settings, listeners, access, Tracing::default(), load, signals, announce).await
        });
        is_ready.await.unwrap();
        Self { connector, stop, task }
    }

    async fn client(&self) -> BlipServiceClient<Channel> {
        let endpoint = Endpoint::from_static("http://local");
        BlipServiceClient::new(endpoint.connect_with_connector(self.connector.clone()).await.unwrap())
    }
}

#[tokio::test]
async fn server_in_memory_answers_and_stops_clean() {
    let server = MemoryServer::start(echo_engine()).await;
    let mut client = server.client().await;
    let responses = ask(&mut client, ask_request(&[(&test_image(), &["red", "blue"])])).await;
    assert_eq!(responses.len(), 2);
    assert!(responses.iter().all(|response| matches!(response.outcome, Some(Outcome::Answer(_)))));
    drop(client);
    server.stop.unbounded_send(15).unwrap();
    assert_eq!(server.task.await.unwrap().unwrap(), Exit::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn fatal_engine_error_ends_server_in_memory() {
    let engine =
        scripted_engine(|_, _| Err(EngineError::new(EngineErrorKind::Fatal, "an illegal memory access")));
    let server = MemoryServer::start(engine).await;
    let responses = ask(&mut server.client().await, ask_request(&[(&test_image(), &["red"])])).await;
    assert_eq!(item_error(&responses[0]), Some((Code::Unavailable, "ENGINE_BROKEN".to_owned())));
    assert_eq!(server.task.await.unwrap().unwrap(), Exit::EngineBroken);
}
