//! What is refused, and how, over a real socket.

use std::{sync::mpsc, time::Duration};

use futures::StreamExt as _;
use server::config::Settings;
use tonic::{Code, Request, Status};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::support::{Server, ask, echo_engine, echo_answer, test_image, wait_for, item_error, ask_request, scripted_engine, cancellable_engine};

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_late_ends_with_deadline_exceeded_and_its_work_is_dropped() {
    let (cancelled, cancelled_receiver) = mpsc::channel();
    let engine = scripted_engine(move |_, rows| {
        while !rows.is_cancelled(0) {
            std::thread::yield_now();
        }
        let _ = cancelled.send(());
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    // With something answered at once: before that, the timer of tonic's own client could speak first.
    let mut request = Request::new(ask_request(&[(b"", &["red"]), (&test_image(), &["red"])]));
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let mut responses = server.client().await.ask(request).await.unwrap().into_inner();
    assert_eq!(responses.next().await.unwrap().unwrap().image_index, 0);
    // The pair may be told first, by the scheduler; the call ends in the same words.
    let mut last = responses.next().await.unwrap();
    if let Ok(response) = &last {
        assert_eq!(item_error(response), Some((Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned())));
        last = match responses.next().await {
            Some(next) => next,
            None => return,
        };
    }
    assert_eq!(reason(&last.unwrap_err()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    tokio::task::spawn_blocking(move || cancelled_receiver.recv().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_deadline_is_told_of_each_pair_even_if_nothing_was_answered_by_then() {
    let (engine, running_receiver, _) = cancellable_engine();
    let mut settings = Settings::default();
    settings.limits.default_deadline_s = 1;
    let server = Server::start(settings, engine).await;
    let responses = ask(&mut server.client().await, ask_request(&[(&test_image(), &["red", "how many"])])).await;
    let late = Some((Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    assert_eq!(responses.iter().map(item_error).collect::<Vec<_>>(), [late.clone(), late]);
    wait_for(running_receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_cannot_be_read_is_refused() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let mut request = Request::new(ask_request(&[(&test_image(), &["red"])]));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = server.client().await.ask(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_DEADLINE".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_takes_his_work_along() {
    let (engine, running_receiver, cancelled_receiver) = cancellable_engine();
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.ask(ask_request(&[(&test_image(), &["red", "how many"])])).await });
    wait_for(running_receiver).await;
    call.abort();
    // Ends only if every row is cancelled.
    wait_for(cancelled_receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_resource_exhausted_with_a_time_to_come_back() {
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let engine = scripted_engine(move |batch, rows| {
        let _ = proceed_receiver.recv();
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    });
    let mut settings = Settings::default();
    settings.scheduler.max_queued_questions = 2;
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
async fn a_message_over_the_limit_is_refused_and_the_next_one_served() {
    let mut settings = Settings::default();
    settings.grpc.max_message_bytes = 4096;
    let server = Server::start(settings, echo_engine()).await;
    let mut client = server.client().await;
    let status = client.ask(ask_request(&[(&[0; 5000], &["red"])])).await.unwrap_err();
    assert_eq!(reason(&status), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned()));
    assert_eq!(item_error(&ask(&mut client, ask_request(&[(&test_image(), &["red"])])).await[0]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_finds_no_room_is_told_to_come_back() {
    let mut settings = Settings::default();
    settings.grpc.max_request_memory_bytes = 4096;
    let server = Server::start(settings, echo_engine()).await;
    let mut client = server.client().await;
    let status = client.ask(ask_request(&[(&[0; 5000], &["red"])])).await.unwrap_err();
    assert_eq!(reason(&status), (Code::ResourceExhausted, "SERVER_BUSY".to_owned()));
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    // Room is given back once images are decoded, so any number of small calls fits one after another.
    for _ in 0..20 {
        assert_eq!(item_error(&ask(&mut client, ask_request(&[(&test_image(), &["red"])])).await[0]), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_would_swell_when_decoded_is_refused_by_its_count() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let input = proto::ImageQuestions::default();
    let request = proto::AskRequest { inputs: vec![input; 100_000], ..Default::default() };
    let status = server.client().await.ask(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "TOO_MANY_QUESTIONS".to_owned()));
}
