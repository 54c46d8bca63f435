//! The answer cache: a repeated question gets the cached answer without computation.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use blip::RowOutput;
use blip_server::{
    auth::client::Client,
    config::Settings,
    error::{ErrorReason, RequestError},
    fair_share::Caller,
    grpc::requests::DecodedRequest,
    models::registry::ModelRegistry,
    pipeline::{
        dispatcher::{Dispatcher, InferenceService as _},
        request::InferenceRequest,
    },
    request::{deadline::Deadline, field_path::RequestFormat, memory_budget::BudgetPermit, task::Task},
    telemetry::tracing::TraceScope,
};
use futures::StreamExt as _;
use proto::{Answer, AskRequest, AskResponse, GenerationOptions, Timing, ask_response::Outcome};
use scheduler::{EngineError, EngineErrorKind, EngineFactory, Priority};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::support::{
    ScriptedEngine, Server, ask, ask_request, echo_answer, http_client, item_error, loaded_model,
    scripted_engine, test_image, wait_for,
};

/// Returns an engine whose scores count its rows, and the counter.
fn counting_engine() -> (EngineFactory<ScriptedEngine>, Arc<AtomicUsize>) {
    let computed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&computed);
    let engine = scripted_engine(move |batch, rows| {
        for row in 0..batch.questions.len() {
            let mut answer = echo_answer(batch, row);
            let RowOutput::Generated(sequences) = &mut answer.answer.output else { unreachable!() };
            sequences[0].score = -(count.fetch_add(1, Ordering::SeqCst) as f32);
            rows.finish(row, Ok(answer));
        }
        Ok(())
    });
    (engine, computed)
}

fn answer(response: &AskResponse) -> Answer {
    match response.outcome.clone().unwrap() {
        Outcome::Answer(answer) => answer,
        Outcome::Error(error) => panic!("{}", error.message),
    }
}

fn without_timing(answer: Answer) -> Answer {
    Answer { timing: None, ..answer }
}

/// Returns for each answer whether it came from the cache.
async fn cached_answers(server: &Server, request: AskRequest) -> Vec<bool> {
    let mut responses = ask(&mut server.client().await, request).await;
    responses.sort_by_key(|response| (response.image_index, response.question_index));
    responses.iter().map(|response| answer(response).timing.unwrap().answer_reused).collect()
}

fn red_request() -> AskRequest {
    ask_request(&[(&test_image(), &["red"])])
}

fn with_options(generation: GenerationOptions) -> AskRequest {
    AskRequest { generation: Some(generation), ..red_request() }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_question_returns_cached_answer_to_any_client() {
    let (engine, computed) = counting_engine();
    let server = Server::start(Settings::default(), engine).await;
    let first = answer(&ask(&mut server.client().await, red_request()).await[0]);
    assert!(!first.timing.as_ref().unwrap().answer_reused);
    for _ in 0..3 {
        let again = answer(&ask(&mut server.client().await, red_request()).await[0]);
        let timing = again.timing.unwrap();
        let Timing { preprocess_ms, total_ms, .. } = timing;
        let expected = Timing { answer_reused: true, preprocess_ms, total_ms, ..Timing::default() };
        assert_eq!(timing, expected);
        assert_eq!(without_timing(again), without_timing(first.clone()));
    }
    assert_eq!(computed.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_request_returns_answer_cached_over_grpc() {
    let (engine, computed) = counting_engine();
    let server = Server::start(Settings::default(), engine).await;
    ask(&mut server.client().await, red_request()).await;
    use base64::Engine as _;
    let image = base64::engine::general_purpose::STANDARD.encode(test_image());
    let body = json!({"inputs": {"texts": [["red"]], "images": [{"base64": image}]}, "details": true});
    let url = format!("{}/v1/ask", server.http_address);
    let response: Value = http_client().post(url).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(response["captions"][0]["details"][0]["timing"]["answer_reused"], true, "{response}");
    assert_eq!(computed.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_image_text_or_options_are_computed() {
    let (engine, computed) = counting_engine();
    let server = Server::start(Settings::default(), engine).await;
    let other_file = [test_image(), b"!".to_vec()].concat();
    let mut candidates = red_request();
    candidates.inputs[0].questions[0].candidates = vec!["red".to_owned(), "green".to_owned()];
    let with_beams = |num_beams| GenerationOptions { num_beams: Some(num_beams), ..Default::default() };
    let requests = [
        red_request(),
        ask_request(&[(&other_file, &["red"])]),
        ask_request(&[(&test_image(), &["green"])]),
        candidates.clone(),
        with_options(with_beams(2)),
        with_options(with_beams(3)),
        with_options(GenerationOptions { max_new_tokens: Some(2), ..Default::default() }),
        AskRequest { explain: true, ..red_request() },
        AskRequest { explain: true, ..with_options(with_beams(2)) },
        AskRequest { explain: true, ..candidates },
    ];
    for is_cached in [false, true] {
        for request in &requests {
            assert_eq!(cached_answers(&server, request.clone()).await, [is_cached], "{request:?}");
        }
    }
    assert_eq!(computed.load(Ordering::SeqCst), requests.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sampled_answers_are_cached_only_with_a_seed() {
    let (engine, computed) = counting_engine();
    let server = Server::start(Settings::default(), engine).await;
    let sampled = GenerationOptions { sample: Some(true), ..Default::default() };
    for _ in 0..2 {
        assert_eq!(cached_answers(&server, with_options(sampled)).await, [false]);
    }
    let seeded = |seed| with_options(GenerationOptions { seed: Some(seed), ..sampled });
    for (seed, is_cached) in [(7, false), (7, true), (8, false)] {
        assert_eq!(cached_answers(&server, seeded(seed)).await, [is_cached], "{seed}");
    }
    assert_eq!(computed.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_not_cached() {
    let mut failed = false;
    let engine = scripted_engine(move |batch, rows| {
        let error = EngineError::new(EngineErrorKind::Row, "the model's output is not finite");
        let outcome = if failed { Ok(echo_answer(batch, 0)) } else { Err(error) };
        failed = true;
        rows.finish(0, outcome);
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    assert!(item_error(&ask(&mut server.client().await, red_request()).await[0]).is_some());
    assert_eq!(cached_answers(&server, red_request()).await, [false]);
    assert_eq!(cached_answers(&server, red_request()).await, [true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_of_cancelled_call_is_not_cached() {
    let (running, running_receiver) = mpsc::channel();
    let (finished, finished_receiver) = mpsc::channel();
    let mut calls = 0;
    let engine = scripted_engine(move |batch, rows| {
        calls += 1;
        if calls == 1 {
            running.send(()).unwrap();
            while !rows.is_cancelled(0) {
                std::thread::yield_now();
            }
        }
        rows.finish(0, Ok(echo_answer(batch, 0)));
        let _ = finished.send(());
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.ask(red_request()).await });
    wait_for(running_receiver).await;
    call.abort();
    wait_for(finished_receiver).await;
    assert_eq!(cached_answers(&server, red_request()).await, [false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_of_zero_bytes_computes_every_question() {
    let (engine, computed) = counting_engine();
    let mut settings = Settings::default();
    settings.model.answer_cache_bytes = 0;
    let server = Server::start(settings, engine).await;
    for _ in 0..3 {
        assert_eq!(cached_answers(&server, red_request()).await, [false]);
    }
    assert_eq!(computed.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_deadline_fails_even_if_answer_is_cached() {
    let settings = Settings::default();
    let model = Arc::new(loaded_model(settings.clone(), counting_engine().0).await.unwrap());
    let dispatcher = Dispatcher::new(ModelRegistry::of(vec![model]), settings.limits, TaskTracker::new());
    let now = Instant::now();
    let mut outcomes = Vec::new();
    for deadline in [None, None, Some(Deadline(now))] {
        let request = InferenceRequest {
            inputs: DecodedRequest::from(red_request()).inputs,
            task: Task::default(),
            model: String::new(),
            format: RequestFormat::GrpcAsk,
            client: Client::anonymous(Caller::SERVER),
            priority: Priority::Normal,
            deadline,
            in_order: false,
            complete_on_error: true,
            budget: BudgetPermit::default(),
            trace: TraceScope::default(),
        };
        let mut results: Vec<_> = dispatcher.infer(request).unwrap().map(Result::unwrap).collect().await;
        let reply = results.pop().unwrap().reply;
        outcomes.push(reply.map(|reply| reply.cost().unwrap().0.answer_reused));
    }
    assert_eq!(outcomes, [Ok(false), Ok(true), Err(RequestError::new(ErrorReason::DeadlineExceeded))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_answers_arrive_immediately_or_in_order() {
    let (proceed, proceed_receiver) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        proceed_receiver.recv().unwrap();
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    proceed.send(()).unwrap();
    ask(&mut client, ask_request(&[(&test_image(), &["red"])])).await;

    // The answer to "red" is cached. The engine waits with the other one.
    let request = ask_request(&[(&test_image(), &["green", "red"])]);
    let mut responses = client.ask(request.clone()).await.unwrap().into_inner();
    assert_eq!(responses.next().await.unwrap().unwrap().question_index, 1);
    drop(responses);
    proceed.send(()).unwrap();

    proceed.send(()).unwrap();
    let other = ask_request(&[(&test_image(), &["how many", "red"])]);
    let responses = ask(&mut client, AskRequest { in_order: true, ..other }).await;
    let cached: Vec<_> = responses
        .iter()
        .map(|response| (response.question_index, answer(response).timing.unwrap().answer_reused))
        .collect();
    assert_eq!(cached, [(0, false), (1, true)]);
}
