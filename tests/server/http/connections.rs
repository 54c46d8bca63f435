//! Connections: pipelining, HTTP/2, drain and age limit.

use std::{sync::mpsc, time::Duration};

use blip_server::{config::Settings, serve::exit::Exit};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ask_body, connect, exchange};
use crate::support::{
    Server, echo_answer, echo_engine, http_client, http_client_builder, scripted_engine, wait_for,
};

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let request = |question: &str, connection: &str| {
        let body = ask_body(&[&[question]]).to_string();
        format!(
            "POST /v1/ask HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let both = request("red", "keep-alive") + &request("green", "close");
    let response = exchange(&server, both.as_bytes()).await;
    let (first, second) = (response.find(r#"["red"]"#).unwrap(), response.find(r#"["green"]"#).unwrap());
    assert!(first < second && response.matches("HTTP/1.1 200").count() == 2, "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_with_prior_knowledge_is_answered() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let client = http_client_builder().http2_prior_knowledge().build().unwrap();
    let ask = client.post(format!("{}/v1/ask", server.http_address)).json(&ask_body(&[&["red"]]));
    let response = ask.send().await.unwrap();
    assert_eq!((response.version(), response.status()), (reqwest::Version::HTTP_2, StatusCode::OK));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_drains_calls_and_closes_idle_connections() {
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let (running, running_receiver) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        let _ = running.send(());
        let _ = proceed_receiver.recv();
        rows.finish(0, Ok(echo_answer(batch, 0)));
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let mut idle = connect(&server).await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");

    let ask = http_client().post(format!("{}/v1/ask", server.http_address)).json(&ask_body(&[&["red"]]));
    let call = tokio::spawn(ask.send());
    wait_for(running_receiver).await;
    server.signal(15);
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    proceed.send(()).unwrap();
    let answered: Value = call.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(answered["captions"][0]["image_results"], json!(["red"]));
    assert_eq!(server.exit().await.unwrap(), Exit::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_is_closed_at_its_age_limit() {
    let mut settings = Settings::default();
    settings.grpc.max_connection_age_s = 1;
    let server = Server::start(settings, echo_engine()).await;
    let mut old = connect(&server).await;
    old.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), old.read_to_end(&mut response)).await;
    closed.unwrap().unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200"));
}
