//! gRPC-Web on the HTTP listener. The tests encode and decode the frames.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use blip_server::config::Settings;
use prost::Message as _;
use proto::{AskResponse, ask_response::Outcome};
use reqwest::{RequestBuilder, Response, StatusCode};

use crate::support::{Server, ask_request, echo_engine, http_client, test_image};

/// The flag of a frame with trailers.
const TRAILERS: u8 = 0x80;

/// Returns a request for `questions` about the test image, as one frame.
fn frame(questions: &[&str]) -> Vec<u8> {
    let message = ask_request(&[(&test_image(), questions)]).encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

/// Returns the flags and contents of the frames of a response.
fn frames(mut body: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [flags, a, b, c, d, rest @ ..] = body {
        let (content, after) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        frames.push((*flags, content));
        body = after;
    }
    assert!(body.is_empty());
    frames
}

fn ask(server: &Server, media_type: &str, body: Vec<u8>) -> RequestBuilder {
    let url = format!("{}/blip.v1.BlipService/Ask", server.http_address);
    http_client().post(url).header("content-type", media_type).header("accept", media_type).body(body)
}

/// Returns the sorted answers of a body, and its trailers.
fn decode(body: &[u8]) -> (Vec<String>, String) {
    let (mut answers, mut trailers) = (Vec::new(), String::new());
    for (flags, content) in frames(body) {
        if flags == TRAILERS {
            trailers = String::from_utf8(content.to_vec()).unwrap();
            continue;
        }
        let response = AskResponse::decode(content).unwrap();
        let Some(Outcome::Answer(answer)) = response.outcome else { panic!("{response:?}") };
        answers.push(answer.text);
    }
    answers.sort();
    (answers, trailers)
}

fn grpc_status(response: &Response) -> Option<&str> {
    response.headers().get("grpc-status").map(|status| status.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn response_has_frames_of_answers_and_trailers() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let response = ask(&server, "application/grpc-web+proto", frame(&["red", "dog"])).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/grpc-web+proto"));
    let (answers, trailers) = decode(&response.bytes().await.unwrap());
    assert_eq!(answers, ["dog", "red"]);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_format_is_base64_of_frames() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let body = STANDARD.encode(frame(&["red"])).into_bytes();
    let response = ask(&server, "application/grpc-web-text", body).send().await.unwrap();
    // Each piece of the body is a separate base64 text.
    let text = response.text().await.unwrap();
    let mut bytes = Vec::new();
    for quantum in text.as_bytes().chunks(4) {
        bytes.extend(STANDARD.decode(quantum).unwrap());
    }
    assert_eq!(decode(&bytes).0, ["red"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_size_limits_and_deadlines_apply_as_in_grpc() {
    let mut settings = Settings::default();
    settings.auth.auth_keys = vec!["correct-horse".parse().unwrap()];
    settings.grpc.max_message_bytes = 4096;
    let server = Server::start(settings, echo_engine()).await;
    let media_type = "application/grpc-web";
    let missing_key = ask(&server, media_type, frame(&["red"])).send().await.unwrap();
    assert_eq!(grpc_status(&missing_key), Some("16"));
    let with_key = |body| ask(&server, media_type, body).header("x-api-key", "correct-horse");
    let (answers, _) = decode(&with_key(frame(&["red"])).send().await.unwrap().bytes().await.unwrap());
    assert_eq!(answers, ["red"]);
    let long = with_key(frame(&["red"; 1000])).send().await.unwrap();
    assert_eq!(grpc_status(&long), Some("8"));
    let unreadable = with_key(frame(&["red"])).header("grpc-timeout", "soon").send().await.unwrap();
    assert_eq!(grpc_status(&unreadable), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_media_type_is_refused_with_415() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let response = ask(&server, "application/json", b"{}".to_vec()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
