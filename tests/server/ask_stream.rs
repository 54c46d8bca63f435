//! `AskStream`: many requests in one call.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use blip_server::{config::Settings, serve::exit::Exit};
use futures::{SinkExt as _, StreamExt as _, channel::mpsc as channel, stream};
use proto::{AskRequest, AskResponse};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    Server, ask, ask_request, echo_answer, echo_engine, item_error, scripted_engine, test_image,
};

fn tagged(tag: impl ToString, questions: &[&str]) -> AskRequest {
    AskRequest { tag: tag.to_string(), ..ask_request(&[(&test_image(), questions)]) }
}

/// Sends all requests on one stream and returns all responses.
async fn ask_all(server: &Server, requests: Vec<AskRequest>) -> Vec<AskResponse> {
    let responses = server.client().await.ask_stream(stream::iter(requests)).await.unwrap().into_inner();
    responses.map(Result::unwrap).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_stream_gets_all_answers_with_its_tag() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let requests = (0..100).map(|number| tagged(number, &["red", "how many", ""])).collect();
    let mut received: HashMap<String, Vec<u32>> = HashMap::new();
    for response in ask_all(&server, requests).await {
        assert_eq!(item_error(&response).is_some(), response.question_index == 2);
        received.entry(response.tag).or_default().push(response.question_index);
    }
    assert_eq!(received.len(), 100);
    for mut questions in received.into_values() {
        questions.sort_unstable();
        assert_eq!(questions, [0, 1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_request_gets_one_response_and_stream_continues() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let long = "t".repeat(200);
    let requests = vec![
        tagged("good", &["red"]),
        AskRequest { tag: "empty".to_owned(), ..AskRequest::default() },
        tagged(&long, &["red"]),
        tagged("also good", &["red"]),
    ];
    let responses: HashMap<_, _> = ask_all(&server, requests)
        .await
        .into_iter()
        .map(|response| (response.tag.clone(), item_error(&response).map(|(_, reason)| reason)))
        .collect();
    let expected = [
        ("good".to_owned(), None),
        ("empty".to_owned(), Some("EMPTY_REQUEST".to_owned())),
        ("t".repeat(128), Some("TAG_TOO_LONG".to_owned())),
        ("also good".to_owned(), None),
    ];
    assert_eq!(responses, HashMap::from(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_order_stream_follows_order_of_requests_and_items() {
    // The last row of each batch is answered first.
    let engine = scripted_engine(|batch, rows| {
        for row in (0..batch.questions.len()).rev() {
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let mut requests: Vec<_> = (0..50).map(|number| tagged(number, &["red", "how many", "is"])).collect();
    requests[0].in_order = true;
    let responses = ask_all(&server, requests).await;
    let received: Vec<_> =
        responses.iter().map(|response| (response.tag.parse().unwrap(), response.question_index)).collect();
    let expected: Vec<(u32, u32)> =
        (0..50).flat_map(|tag| (0..3).map(move |question| (tag, question))).collect();
    assert_eq!(received, expected);

    // The same applies to a single request.
    let request = AskRequest { in_order: true, ..tagged("one", &["red", "how many", "is"]) };
    let responses = ask(&mut server.client().await, request).await;
    let received: Vec<_> = responses.iter().map(|response| response.question_index).collect();
    assert_eq!(received, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_window_limits_concurrent_requests() {
    let largest_batch = Arc::new(Mutex::new(0));
    let engine = scripted_engine({
        let largest_batch = Arc::clone(&largest_batch);
        move |batch, rows| {
            let mut largest = largest_batch.lock().unwrap();
            *largest = batch.questions.len().max(*largest);
            for row in 0..batch.questions.len() {
                rows.finish(row, Ok(echo_answer(batch, row)));
            }
            Ok(())
        }
    });
    let mut settings = Settings::default();
    settings.grpc.stream_window = 3;
    let server = Server::start(settings, engine).await;
    let requests = (0..200).map(|number| tagged(number, &[&format!("red {number}")])).collect();
    assert_eq!(ask_all(&server, requests).await.len(), 200);
    assert!((1..=3).contains(&*largest_batch.lock().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_stops_reading_from_client_that_does_not_read() {
    /// An upper bound of the small responses in the buffers between server and client.
    const MAX_BUFFERED: usize = 10_000;
    let questions = Arc::new(AtomicUsize::new(0));
    let engine = scripted_engine({
        let questions = Arc::clone(&questions);
        move |batch, rows| {
            questions.fetch_add(batch.questions.len(), Ordering::SeqCst);
            for row in 0..batch.questions.len() {
                rows.finish(row, Ok(echo_answer(batch, row)));
            }
            Ok(())
        }
    });
    let server = Server::start(Settings::default(), engine).await;
    let endless = stream::repeat_with(|| tagged("bulk", &["red"; 100])).take(1000);
    let mut unread = server.client().await.ask_stream(endless).await.unwrap().into_inner();
    // Meanwhile the server answers another client. The stream has time to continue.
    let mut client = server.client().await;
    let mut others = 0;
    while others < 300 {
        assert_eq!(item_error(&ask(&mut client, tagged("other", &["how many"])).await[0]), None);
        others += 1;
    }
    assert!(questions.load(Ordering::SeqCst) < others + MAX_BUFFERED);
    // When the client reads, it receives all answers.
    let mut answers = 0;
    while let Some(response) = unread.next().await {
        assert_eq!(item_error(&response.unwrap()), None);
        answers += 1;
    }
    assert_eq!(answers, 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_answers_received_requests_of_stream() {
    let (proceed, proceed_receiver) = mpsc::channel();
    let (running, running_receiver) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        running.send(()).unwrap();
        proceed_receiver.recv().unwrap();
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    // The client does not close its side of the stream.
    let (mut requests, receiver) = channel::unbounded();
    requests.send(tagged("received", &["red"])).await.unwrap();
    let mut responses = server.client().await.ask_stream(receiver).await.unwrap().into_inner();
    tokio::task::spawn_blocking(move || running_receiver.recv().unwrap()).await.unwrap();
    server.signal(15);
    proceed.send(()).unwrap();
    let answered = responses.next().await.unwrap().unwrap();
    assert_eq!((answered.tag.as_str(), item_error(&answered)), ("received", None));
    let status = responses.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "SHUTTING_DOWN");
    drop(responses);
    assert_eq!(server.exit().await.unwrap(), Exit::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn deadline_ends_stream_that_waits_for_requests() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let (_requests, receiver) = channel::unbounded::<AskRequest>();
    let mut call = tonic::Request::new(receiver);
    call.set_timeout(std::time::Duration::from_millis(1));
    let status = match server.client().await.ask_stream(call).await {
        Ok(responses) => responses.into_inner().next().await.unwrap().unwrap_err(),
        Err(status) => status,
    };
    // The client's timer may end the call first.
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status}");
}
