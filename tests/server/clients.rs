//! API keys, their rates and their priorities.

use std::sync::mpsc;

use blip_server::config::Settings;
use futures::StreamExt as _;
use proto::{AskRequest, Priority, blip_service_client::BlipServiceClient};
use tokio::sync::oneshot;
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::support::{
    Server, ask_request, echo_answer, echo_engine, item_error, loaded_model, scripted_engine, test_image,
};

const KEYS: &str = "
[[keys]]
name = 'screen'
key = 'correct-horse'
priority = 'high'

[[keys]]
name = 'bulk'
key = 'battery-staple'
priority = 'low'
questions_per_s = 1
burst = 4
";

/// Returns settings with [`KEYS`], and the folder of their file.
///
/// The folder must exist until the server has started.
fn settings_with_keys() -> (Settings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    std::fs::write(&file, KEYS).unwrap();
    let mut settings = Settings::default();
    settings.auth.auth_keys_file = Some(file);
    (settings, folder)
}

/// The number of tokens of the question whose batch waits.
const FIRST: u32 = 3;

fn with_key(header: &'static str, value: &str, request: AskRequest) -> Request<AskRequest> {
    let mut call = Request::new(request);
    call.metadata_mut().insert(header, MetadataValue::try_from(value).unwrap());
    call
}

/// Returns the number of answers. No item may fail.
async fn call(client: &mut BlipServiceClient<Channel>, call: Request<AskRequest>) -> Result<usize, Status> {
    let responses = client.ask(call).await?.into_inner();
    Ok(responses.map(|response| assert_eq!(item_error(&response.unwrap()), None)).count().await)
}

fn code_and_reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().unwrap().reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_required_for_inference_but_not_for_health() {
    let (settings, _folder) = settings_with_keys();
    let server = Server::start(settings, echo_engine()).await;
    let mut client = server.client().await;
    let request = ask_request(&[(&test_image(), &["red"])]);
    for (header, value) in [("authorization", "Bearer correct-horse"), ("x-api-key", "battery-staple")] {
        assert_eq!(call(&mut client, with_key(header, value, request.clone())).await.unwrap(), 1);
    }
    let status = call(&mut client, Request::new(request.clone())).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::Unauthenticated, "API_KEY_MISSING".to_owned()));
    let wrong = with_key("authorization", "Bearer correct-house", request);
    let status = call(&mut client, wrong).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::Unauthenticated, "API_KEY_INVALID".to_owned()));
    assert!(!status.message().contains("correct-house"));
    let health = HealthClient::new(server.channel().await).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_of_key_is_enforced_with_retry_delay() {
    let (settings, _folder) = settings_with_keys();
    let server = Server::start(settings, echo_engine()).await;
    let mut client = server.client().await;
    let ask = |questions: &[&str]| {
        with_key("x-api-key", "battery-staple", ask_request(&[(&test_image(), questions)]))
    };
    let status = call(&mut client, ask(&["red"; 5])).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "BURST_TOO_LARGE".to_owned()));
    assert_eq!(call(&mut client, ask(&["red", "how many", "is", "a"])).await.unwrap(), 4);
    let status = call(&mut client, ask(&["red"; 4])).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "RATE_LIMITED".to_owned()));
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait <= std::time::Duration::from_secs(4), "{wait:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_answers_count_toward_rate_of_key() {
    let (settings, _folder) = settings_with_keys();
    let server = Server::start(settings, echo_engine()).await;
    let mut client = server.client().await;
    let ask =
        |key, questions: &[&str]| with_key("x-api-key", key, ask_request(&[(&test_image(), questions)]));
    assert_eq!(call(&mut client, ask("correct-horse", &["red"])).await.unwrap(), 1);
    assert_eq!(call(&mut client, ask("battery-staple", &["red"; 4])).await.unwrap(), 4);
    let status = call(&mut client, ask("battery-staple", &["red"; 4])).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "RATE_LIMITED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_of_request_is_limited_by_its_key() {
    // Each batch has one question. The first batch waits until all other questions are queued.
    // The order of the others shows their priorities.
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let (begun, order) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        if begun.send(batch.questions[0].tokens).is_ok() && batch.questions[0].tokens == FIRST {
            proceed_receiver.recv().unwrap();
        }
        rows.finish(0, Ok(echo_answer(batch, 0)));
        Ok(())
    });
    let (mut settings, _folder) = settings_with_keys();
    settings.scheduler.max_batch_questions = Some(1);
    let (sender, scheduler) = oneshot::channel();
    let load = {
        let settings = settings.clone();
        async move {
            let model = loaded_model(settings, engine).await?;
            let _ = sender.send(model.scheduler.clone());
            Ok(model)
        }
    };
    let (ready, ready_receiver) = oneshot::channel();
    let server = Server::launch(settings, load, move || ready.send(()).unwrap()).await;
    ready_receiver.await.unwrap();
    let scheduler = scheduler.await.unwrap();
    let client = server.client().await;
    let mut calls = Vec::new();
    // The number of tokens identifies a question. It includes [CLS] and [SEP].
    let mut ask = async |key: &str, priority: Priority, tokens: u32| {
        let question = vec!["a"; tokens as usize - 2].join(" ");
        let request =
            AskRequest { priority: priority.into(), ..ask_request(&[(&test_image(), &[&question])]) };
        let (mut client, request) = (client.clone(), with_key("x-api-key", key, request));
        calls.push(tokio::spawn(async move { call(&mut client, request).await.unwrap() }));
        while scheduler.snapshot().jobs < calls.len() {
            tokio::task::yield_now().await;
        }
    };
    ask("correct-horse", Priority::Normal, FIRST).await;
    assert_eq!(order.recv().unwrap(), FIRST);
    for tokens in [4, 5, 6, 7] {
        ask("battery-staple", Priority::High, tokens).await;
    }
    for tokens in [8, 9] {
        ask("correct-horse", Priority::High, tokens).await;
    }
    proceed.send(()).unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap(), 1);
    }
    assert_eq!(order.try_iter().collect::<Vec<_>>(), [8, 9, 4, 5, 6, 7]);
}
