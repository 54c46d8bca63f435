//! The server sends each answer when it is ready.

use std::sync::mpsc;

use blip_server::{config::Settings, error::ErrorReason};
use futures::StreamExt as _;
use scheduler::{EngineError, EngineErrorKind};
use tonic::Code;

use crate::support::{
    Server, ask, ask_request, echo_answer, echo_engine, item_error, scripted_engine, test_image, wait_for,
};

#[tokio::test(flavor = "multi_thread")]
async fn first_answer_arrives_before_last_is_computed() {
    let (proceed, proceed_receiver) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        for row in 0..batch.questions.len() {
            proceed_receiver.recv().unwrap();
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    let request = ask_request(&[(&test_image(), &["red", "green", "how many"])]);
    // The engine computes a row after each message, so each answer arrives before the next exists.
    proceed.send(()).unwrap();
    let mut responses = client.ask(request).await.unwrap().into_inner();
    assert_eq!(item_error(&responses.next().await.unwrap().unwrap()), None);
    for _ in 0..2 {
        proceed.send(()).unwrap();
        assert_eq!(item_error(&responses.next().await.unwrap().unwrap()), None);
    }
    assert!(responses.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_arrive_with_first_answer() {
    let (proceed, proceed_receiver) = mpsc::channel();
    let (running, running_receiver) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        running.send(()).unwrap();
        proceed_receiver.recv().unwrap();
        rows.finish(0, Ok(echo_answer(batch, 0)));
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    let mut other = client.clone();
    let mut call = tokio::spawn(async move { client.ask(ask_request(&[(&test_image(), &["red"])])).await });
    wait_for(running_receiver).await;
    // Until the headers arrive, a client can retry on another server. The same connection returns
    // the result of another call first, so earlier headers would have arrived.
    assert!(other.ask(ask_request(&[])).await.is_err());
    assert!(futures::poll!(&mut call).is_pending());
    proceed.send(()).unwrap();
    let mut responses = call.await.unwrap().unwrap().into_inner();
    assert_eq!(item_error(&responses.next().await.unwrap().unwrap()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_item_gets_one_response_with_its_indices() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let image = test_image();
    let request = ask_request(&[
        (&image, &["red", "green"]),
        (b"no image", &["red"]),
        (&image, &["how many", "", "is"]),
    ]);
    let responses = ask(&mut server.client().await, request).await;
    let mut received: Vec<_> = responses
        .iter()
        .map(|response| (response.image_index, response.question_index, item_error(response)))
        .collect();
    received.sort_by_key(|&(image, question, _)| (image, question));
    let invalid = |reason: ErrorReason| Some((Code::InvalidArgument, reason.spec().name.to_owned()));
    let expected = [
        (0, 0, None),
        (0, 1, None),
        (1, 0, invalid(ErrorReason::ImageFormatUnknown)),
        (2, 0, None),
        (2, 1, invalid(ErrorReason::QuestionEmpty)),
        (2, 2, None),
    ];
    assert_eq!(received, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_item_fails_before_valid_ones_are_computed() {
    let (proceed, proceed_receiver) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        proceed_receiver.recv().unwrap();
        rows.finish(0, Ok(echo_answer(batch, 0)));
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let mut client = server.client().await;
    let request = ask_request(&[(&test_image(), &["red"]), (b"", &["red"]), (b"GIF89a", &["red"])]);
    let mut responses = client.ask(request).await.unwrap().into_inner();
    for _ in 0..2 {
        assert_ne!(responses.next().await.unwrap().unwrap().image_index, 0);
    }
    proceed.send(()).unwrap();
    assert_eq!(item_error(&responses.next().await.unwrap().unwrap()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_that_engine_refuses_fails_alone() {
    let engine = scripted_engine(|batch, rows| {
        for row in 0..batch.questions.len() {
            let is_refused = batch.questions[row].tokens == 3;
            let error = EngineError::new(EngineErrorKind::Row, "the model's output is not finite");
            rows.finish(row, if is_refused { Err(error) } else { Ok(echo_answer(batch, row)) });
        }
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let request = ask_request(&[(&test_image(), &["red", "how many"])]);
    let mut responses = ask(&mut server.client().await, request).await;
    responses.sort_by_key(|response| response.question_index);
    assert_eq!(item_error(&responses[0]), Some((Code::Internal, "ENGINE_REFUSED".to_owned())));
    assert_eq!(item_error(&responses[1]), None);
}
