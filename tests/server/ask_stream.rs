//! `AskStream`: many requests on one call.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use futures::{SinkExt as _, StreamExt as _, channel::mpsc as channel, stream};
use proto::{AskRequest, AskResponse};
use server::{config::Settings, serve::exit::Exit};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{Server, ask, echo_engine, echo_answer, test_image, item_error, ask_request, scripted_engine};

fn tagged(tag: impl ToString, questions: &[&str]) -> AskRequest {
    AskRequest { tag: tag.to_string(), ..request(&[(&test_image(), questions)]) }
}

async fn converse(server: &Server, requests: Vec<AskRequest>) -> Vec<AskResponse> {
    let responses = server.client().await.ask_stream(stream::iter(requests)).await.unwrap().into_inner();
    responses.map(Result::unwrap).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_stream_is_answered_in_full_under_its_own_tag() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let requests = (0..100).map(|number| tagged(number, &["red", "how many", ""])).collect();
    let mut received: HashMap<String, Vec<u32>> = HashMap::new();
    for response in converse(&server, requests).await {
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
async fn a_request_that_is_refused_as_a_whole_is_one_response_and_the_stream_goes_on() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let long = "t".repeat(200);
    let requests = vec![
        tagged("good", &["red"]),
        AskRequest { tag: "empty".to_owned(), ..AskRequest::default() },
        tagged(&long, &["red"]),
        tagged("also good", &["red"]),
    ];
    let responses: HashMap<_, _> = converse(&server, requests)
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
async fn in_order_means_the_order_of_requests_and_of_their_pairs() {
    // The last row of each batch is answered first.
    let backwards = scripted_engine(|batch, rows| {
        for row in (0..batch.questions.len()).rev() {
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    });
    let server = Server::start(Settings::default(), backwards).await;
    let mut requests: Vec<_> = (0..50).map(|number| tagged(number, &["red", "how many", "is"])).collect();
    requests[0].in_order = true;
    let responses = converse(&server, requests).await;
    let received: Vec<_> =
        responses.iter().map(|response| (response.tag.parse().unwrap(), response.question_index)).collect();
    let expected: Vec<(u32, u32)> =
        (0..50).flat_map(|tag| (0..3).map(move |question| (tag, question))).collect();
    assert_eq!(received, expected);

    // A single request likewise.
    let request = AskRequest { in_order: true, ..tagged("one", &["red", "how many", "is"]) };
    let responses = ask(&mut server.client().await, request).await;
    let received: Vec<_> = responses.iter().map(|response| response.question_index).collect();
    assert_eq!(received, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_of_a_stream_are_worked_on_at_a_time_than_its_window() {
    let largest = Arc::new(Mutex::new(0));
    let engine = scripted_engine({
        let largest = Arc::clone(&largest);
        move |batch, rows| {
            let mut largest = largest.lock().unwrap();
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
    assert_eq!(converse(&server, requests).await.len(), 200);
    assert!((1..=3).contains(&*largest.lock().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_not_read_from() {
    /// So many small responses fit into the buffers between server and client, generously counted.
    const BUFFERED: usize = 10_000;
    let request = Arc::new(AtomicUsize::new(0));
    let engine = scripted_engine({
        let request = Arc::clone(&request);
        move |batch, rows| {
            request.fetch_add(batch.questions.len(), Ordering::SeqCst);
            for row in 0..batch.questions.len() {
                rows.finish(row, Ok(echo_answer(batch, row)));
            }
            Ok(())
        }
    });
    let server = Server::start(Settings::default(), engine).await;
    let endless = stream::repeat_with(|| tagged("bulk", &["red"; 100])).take(1000);
    let mut unread = server.client().await.ask_stream(endless).await.unwrap().into_inner();
    // Meanwhile others are served, one after the other, with all the time in the world for the stream to go on in.
    let mut client = server.client().await;
    let mut others = 0;
    while others < 300 {
        assert_eq!(item_error(&ask(&mut client, tagged("other", &["how many"])).await[0]), None);
        others += 1;
    }
    assert!(request.load(Ordering::SeqCst) < others + BUFFERED);
    // Once it reads, everything comes.
    let mut answers = 0;
    while let Some(response) = unread.next().await {
        assert_eq!(item_error(&response.unwrap()), None);
        answers += 1;
    }
    assert_eq!(answers, 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answers_what_it_has_read_and_sends_the_rest_elsewhere() {
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
    // Never half-closed: the client has more to ask.
    let (mut requests, receiver) = channel::unbounded();
    requests.send(tagged("taken", &["red"])).await.unwrap();
    let mut responses = server.client().await.ask_stream(receiver).await.unwrap().into_inner();
    tokio::task::spawn_blocking(move || running_receiver.recv().unwrap()).await.unwrap();
    server.signal(15);
    proceed.send(()).unwrap();
    let answered = responses.next().await.unwrap().unwrap();
    assert_eq!((answered.tag.as_str(), item_error(&answered)), ("taken", None));
    let status = responses.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "SHUTTING_DOWN");
    drop(responses);
    assert_eq!(server.ended().await.unwrap(), Exit::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_the_call_ends_a_stream_that_waits_for_requests() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let (_requests, receiver) = channel::unbounded::<AskRequest>();
    let mut call = tonic::Request::new(receiver);
    call.set_timeout(std::time::Duration::from_millis(1));
    let status = match server.client().await.ask_stream(call).await {
        Ok(responses) => responses.into_inner().next().await.unwrap().unwrap_err(),
        Err(status) => status,
    };
    // The client's own clock may be first to say so.
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status}");
}
