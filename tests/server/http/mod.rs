//! HTTP requests over a real socket.

mod adapters;
mod ask;
mod browsers;
mod connections;
mod errors;

use blip_server::config::Settings;
use reqwest::{Response, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Server, http_client, test_image};

const KEY: &str = "correct-horse";

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Returns the JSON of `POST /v1/ask`, with the test image for each list of questions.
fn ask_body(texts: &[&[&str]]) -> Value {
    let image = json!({"base64": base64(&test_image())});
    json!({"inputs": {"texts": texts, "images": vec![image; texts.len()]}})
}

fn with_field(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    body[field] = value.into();
    body
}

async fn post(server: &Server, body: &Value) -> Response {
    http_client().post(format!("{}/v1/ask", server.http_address)).json(body).send().await.unwrap()
}

/// Reads a problem response. Its status must equal the one of the response.
async fn problem(response: Response) -> Value {
    let status = response.status().as_u16();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    problem
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.http_address.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Sends `request` unchanged, and reads until the server closes the connection.
async fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = connect(server).await;
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

fn settings_with_key() -> Settings {
    let mut settings = Settings::default();
    settings.auth.auth_keys = vec![KEY.parse().unwrap()];
    settings
}
