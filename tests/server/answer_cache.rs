//! What was asked before is answered as before, and nothing is computed for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use blip::RowOutput;
use futures::StreamExt as _;
use proto::{Answer, AskRequest, AskResponse, GenerationOptions, Timing, ask_response::Outcome};
use scheduler::{EngineError, EngineErrorKind, EngineFactory, Priority};
use serde_json::{Value, json};
use server::{
    auth::client::Client,
    config::Settings,
    error::{ErrorReason, RequestError},
    grpc::requests::DecodedRequest,
    models::registry::ModelRegistry,
    pipeline::{
        dispatcher::{InferenceService as _, Dispatcher},
        request::InferenceRequest,
    },
    request::{deadline::Deadline, field_path::RequestFormat, memory_budget::BudgetPermit, task::Task},
    telemetry::tracing::TraceScope,
};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::support::{
    ScriptedEngine, Server, ask, echo_answer, http_client, test_image, loaded_model, wait_for, item_error, ask_request,
    scripted_engine,
};

/// An engine that answers each row with itself and how many came before it, with their count.
fn counting() -> (EngineFactory<ScriptedEngine>, Arc<AtomicUsize>) {
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

/// Whether the answers to `asked` were kept.
async fn reused(server: &Server, request: AskRequest) -> Vec<bool> {
    let mut responses = ask(&mut server.client().await, request).await;
    responses.sort_by_key(|response| (response.image_index, response.question_index));
    responses.iter().map(|response| answer(response).timing.unwrap().answer_reused).collect()
}

fn red() -> AskRequest {
    ask_request(&[(&test_image(), &["red"])])
}

fn generation(generation: GenerationOptions) -> AskRequest {
    AskRequest { generation: Some(generation), ..red() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_was_asked_before_is_answered_alike_by_no_engine_whoever_asks() {
    let (engine, computed) = counting();
    let server = Server::start(Settings::default(), engine).await;
    let first = answer(&ask(&mut server.client().await, red()).await[0]);
    assert!(!first.timing.as_ref().unwrap().answer_reused);
    for _ in 0..3 {
        let again = answer(&ask(&mut server.client().await, red()).await[0]);
        let timing = again.timing.unwrap();
        let Timing { preprocess_ms, total_ms, .. } = timing;
        let expected = Timing { answer_reused: true, preprocess_ms, total_ms, ..Timing::default() };
        assert_eq!(timing, expected);
        assert_eq!(without_timing(again), without_timing(first.clone()));
    }
    assert_eq!(computed.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_the_same_answers_are_found_and_told_of() {
    let (engine, computed) = counting();
    let server = Server::start(Settings::default(), engine).await;
    ask(&mut server.client().await, red()).await;
    use base64::Engine as _;
    let image = base64::engine::general_purpose::STANDARD.encode(test_image());
    let body = json!({"inputs": {"texts": [["red"]], "images": [{"base64": image}]}, "details": true});
    let url = format!("{}/v1/ask", server.http_address);
    let response: Value = http_client().post(url).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(response["captions"][0]["details"][0]["timing"]["answer_reused"], true, "{response}");
    assert_eq!(computed.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_image_other_words_or_other_options_are_computed() {
    let (engine, computed) = counting();
    let server = Server::start(Settings::default(), engine).await;
    let other_file = [test_image(), b"!".to_vec()].concat();
    let mut candidates = red();
    candidates.inputs[0].questions[0].candidates = vec!["red".to_owned(), "green".to_owned()];
    let with_beams = |num_beams| GenerationOptions { num_beams: Some(num_beams), ..Default::default() };
    let request = [
        red(),
        ask_request(&[(&other_file, &["red"])]),
        ask_request(&[(&test_image(), &["green"])]),
        candidates,
        generation(with_beams(2)),
        generation(with_beams(3)),
        generation(GenerationOptions { max_new_tokens: Some(2), ..Default::default() }),
    ];
    for kept in [false, true] {
        for request in &request {
            assert_eq!(reused(&server, request.clone()).await, [kept], "{request:?}");
        }
    }
    assert_eq!(computed.load(Ordering::SeqCst), request.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_drawn_is_kept_only_for_a_seed_that_was_given() {
    let (engine, computed) = counting();
    let server = Server::start(Settings::default(), engine).await;
    let drawn = GenerationOptions { sample: Some(true), ..Default::default() };
    for _ in 0..2 {
        assert_eq!(reused(&server, generation(drawn)).await, [false]);
    }
    let seeded = |seed| generation(GenerationOptions { seed: Some(seed), ..drawn });
    for (seed, kept) in [(7, false), (7, true), (8, false)] {
        assert_eq!(reused(&server, seeded(seed)).await, [kept], "{seed}");
    }
    assert_eq!(computed.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_not_kept() {
    let mut failed = false;
    let engine = scripted_engine(move |batch, rows| {
        let error = EngineError::new(EngineErrorKind::Row, "the model's output is not finite");
        let outcome = if failed { Ok(echo_answer(batch, 0)) } else { Err(error) };
        failed = true;
        rows.finish(0, outcome);
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    assert!(item_error(&ask(&mut server.client().await, red()).await[0]).is_some());
    assert_eq!(reused(&server, red()).await, [false]);
    assert_eq!(reused(&server, red()).await, [true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_caller_had_left_is_not_kept() {
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
    let call = tokio::spawn(async move { client.ask(red()).await });
    wait_for(running_receiver).await;
    call.abort();
    wait_for(finished_receiver).await;
    assert_eq!(reused(&server, red()).await, [false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_no_bytes_leaves_every_question_to_the_engine() {
    let (engine, computed) = counting();
    let mut settings = Settings::default();
    settings.model.answer_cache_bytes = 0;
    let server = Server::start(settings, engine).await;
    for _ in 0..3 {
        assert_eq!(reused(&server, red()).await, [false]);
    }
    assert_eq!(computed.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_too_late_is_refused_though_its_answer_is_kept() {
    let settings = Settings::default();
    let model = Arc::new(loaded_model(settings.clone(), counting().0).await.unwrap());
    let frontend = Dispatcher::new(ModelRegistry::of(vec![model]), settings.limits, TaskTracker::new());
    let now = Instant::now();
    let mut outcomes = Vec::new();
    for deadline in [None, None, Some(Deadline(now))] {
        let request = InferenceRequest {
            inputs: DecodedRequest::from(red()).inputs,
            task: Task::default(),
            model: String::new(),
            format: RequestFormat::GrpcAsk,
            client: Client::anonymous("test"),
            priority: Priority::Normal,
            deadline,
            in_order: false,
            complete_on_error: true,
            budget: BudgetPermit::default(),
            trace: TraceScope::default(),
        };
        let mut of_call: Vec<_> = frontend.infer(request).unwrap().map(Result::unwrap).collect().await;
        let reply = of_call.pop().unwrap().reply;
        outcomes.push(reply.map(|reply| reply.cost().unwrap().0.answer_reused));
    }
    assert_eq!(outcomes, [Ok(false), Ok(true), Err(RequestError::new(ErrorReason::DeadlineExceeded))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_answers_come_at_once_or_in_their_turn() {
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

    // "red" is kept, and the engine holds the other.
    let request = ask_request(&[(&test_image(), &["green", "red"])]);
    let mut responses = client.ask(request.clone()).await.unwrap().into_inner();
    assert_eq!(responses.next().await.unwrap().unwrap().question_index, 1);
    drop(responses);
    proceed.send(()).unwrap();

    proceed.send(()).unwrap();
    let other = ask_request(&[(&test_image(), &["how many", "red"])]);
    let responses = ask(&mut client, AskRequest { in_order: true, ..other }).await;
    let told: Vec<_> = responses
        .iter()
        .map(|response| (response.question_index, answer(response).timing.unwrap().answer_reused))
        .collect();
    assert_eq!(told, [(0, false), (1, true)]);
}
