//! Errors of gRPC requests over a real socket.

use std::{sync::mpsc, time::Duration};

use blip_server::config::Settings;
use futures::StreamExt as _;
use tonic::{Code, Request, Status};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::support::{
    Server, ask, ask_request, cancellable_engine, echo_answer, echo_engine, item_error, scripted_engine,
    test_image, wait_for,
};

fn code_and_reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_deadline_ends_call_and_cancels_its_rows() {
    let (cancelled, cancelled_receiver) = mpsc::channel();
    let engine = scripted_engine(move |_, rows| {
        while !rows.is_cancelled(0) {
            std::thread::yield_now();
        }
        let _ = cancelled.send(());
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    // The invalid image gets an immediate response. Before the first response, the timer of the
    // tonic client could end the call.
    let mut request = Request::new(ask_request(&[(b"", &["red"]), (&test_image(), &["red"])]));
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let mut responses = server.client().await.ask(request).await.unwrap().into_inner();
    assert_eq!(responses.next().await.unwrap().unwrap().image_index, 0);
    // The scheduler may end the item before the call ends. Both report the same reason.
    let mut last = responses.next().await.unwrap();
    if let Ok(response) = &last {
        assert_eq!(item_error(response), Some((Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned())));
        last = match responses.next().await {
            Some(next) => next,
            None => return,
        };
    }
    assert_eq!(code_and_reason(&last.unwrap_err()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    tokio::task::spawn_blocking(move || cancelled_receiver.recv().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn default_deadline_fails_each_item() {
    let (engine, running_receiver, _) = cancellable_engine();
    let mut settings = Settings::default();
    settings.limits.default_deadline_s = 1;
    let server = Server::start(settings, engine).await;
    let responses =
        ask(&mut server.client().await, ask_request(&[(&test_image(), &["red", "how many"])])).await;
    let late = Some((Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    assert_eq!(responses.iter().map(item_error).collect::<Vec<_>>(), [late.clone(), late]);
    wait_for(running_receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_deadline_is_refused() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let mut request = Request::new(ask_request(&[(&test_image(), &["red"])]));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = server.client().await.ask(request).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::InvalidArgument, "INVALID_DEADLINE".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_call_cancels_its_rows() {
    let (engine, running_receiver, cancelled_receiver) = cancellable_engine();
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    let call =
        tokio::spawn(async move { client.ask(ask_request(&[(&test_image(), &["red", "how many"])])).await });
    wait_for(running_receiver).await;
    call.abort();
    // The engine sends this when every row is cancelled.
    wait_for(cancelled_receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_queue_is_resource_exhausted_with_retry_delay() {
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let engine = scripted_engine(move |batch, rows| {
        let _ = proceed_receiver.recv();
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    });
    let mut settings = Settings::default();
    // One client may have two of three.
    settings.scheduler.max_queued_questions = 3;
    let server = Server::start(settings, engine).await;
    let mut client = server.client().await;
    let request = ask_request(&[(&test_image(), &["red", "green", "how many", "dog"])]);
    let mut responses = client.ask(request).await.unwrap().into_inner();
    for _ in 0..2 {
        let response = responses.next().await.unwrap().unwrap();
        assert_eq!(item_error(&response), Some((Code::ResourceExhausted, "QUEUE_FULL".to_owned())));
        let Some(proto::ask_response::Outcome::Error(error)) = response.outcome else { panic!() };
        assert!(error.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    }
    drop(proceed);
    for _ in 0..2 {
        assert_eq!(item_error(&responses.next().await.unwrap().unwrap()), None);
    }
    assert!(responses.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_message_is_refused_and_next_one_answered() {
    let mut settings = Settings::default();
    settings.grpc.max_message_bytes = 4096;
    let server = Server::start(settings, echo_engine()).await;
    let mut client = server.client().await;
    let status = client.ask(ask_request(&[(&[0; 5000], &["red"])])).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned()));
    assert_eq!(item_error(&ask(&mut client, ask_request(&[(&test_image(), &["red"])])).await[0]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_request_memory_is_refused_with_retry_delay() {
    let mut settings = Settings::default();
    settings.grpc.max_request_memory_bytes = 4096;
    let server = Server::start(settings, echo_engine()).await;
    let mut client = server.client().await;
    let status = client.ask(ask_request(&[(&[0; 5000], &["red"])])).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "SERVER_BUSY".to_owned()));
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    // A decoded image returns its memory, so many small sequential calls succeed.
    for _ in 0..20 {
        assert_eq!(item_error(&ask(&mut client, ask_request(&[(&test_image(), &["red"])])).await[0]), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn count_of_inputs_is_checked_before_decoding() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let input = proto::ImageQuestions::default();
    let request = proto::AskRequest { inputs: vec![input; 100_000], ..Default::default() };
    let status = server.client().await.ask(request).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::InvalidArgument, "TOO_MANY_QUESTIONS".to_owned()));
}
