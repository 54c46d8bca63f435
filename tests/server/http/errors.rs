//! Requests that the server refuses.

use blip_server::config::Settings;
use reqwest::{StatusCode, header};
use serde_json::json;

use super::{KEY, ask_body, exchange, post, problem, settings_with_key, with_field};
use crate::support::{ScriptedEngine, Server, echo_engine, http_client};

#[tokio::test(flavor = "multi_thread")]
async fn invalid_request_returns_problem_with_reason() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let extra_list = {
        let mut request = ask_body(&[&["red"]]);
        request["inputs"]["texts"] = json!([["red"], ["green"]]);
        request
    };
    for (request, reason, field) in [
        (extra_list, "TEXTS_MISMATCHED", "inputs.texts"),
        (json!({"inputs": {"texts": [], "images": []}}), "EMPTY_REQUEST", "inputs.images"),
        (ask_body(&[&["red"], &[]]), "NO_QUESTIONS", "inputs.texts[1]"),
        (ask_body(&[&["red"; 1025]]), "TOO_MANY_QUESTIONS", "inputs.texts"),
        (with_field(ask_body(&[&["red"]]), "detail", true), "PAYLOAD_INVALID", "detail"),
        (with_field(ask_body(&[&["red"]]), "priority", "urgent"), "PAYLOAD_INVALID", "priority"),
        (with_field(ask_body(&[&["red"]]), "timeout_ms", 0), "PAYLOAD_INVALID", "timeout_ms"),
        (
            json!({"inputs": {"texts": vec![json!([]); 200_000], "images": []}}),
            "PAYLOAD_TOO_MANY_VALUES",
            "the body",
        ),
    ] {
        let response = post(&server, &request).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let problem = problem(response).await;
        assert_eq!((&problem["reason"], &problem["field"]), (&json!(reason), &json!(field)), "{problem}");
        assert_eq!(problem["type"], format!("/docs/errors#{reason}"));
    }
    let client = http_client();
    let ask = format!("{}/v1/ask", server.http_address);
    let typed = |media_type: &str| client.post(&ask).header(header::CONTENT_TYPE, media_type).body("{,");
    let malformed = problem(typed("application/json").send().await.unwrap()).await;
    assert!(malformed["detail"].as_str().unwrap().ends_with("line 1 column 2"), "{malformed}");
    assert_eq!(problem(typed("text/plain").send().await.unwrap()).await["reason"], "MEDIA_TYPE_REFUSED");
    let wrong_method = client.get(&ask).send().await.unwrap();
    assert_eq!(wrong_method.headers()[header::ALLOW], "POST");
    assert_eq!(problem(wrong_method).await["reason"], "METHOD_REFUSED");
    let unknown_route = client.get(format!("{ask}/nothing")).send().await.unwrap();
    assert_eq!(problem(unknown_route).await["detail"], "unknown route /v1/ask/nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_during_model_load_is_refused() {
    let load = std::future::pending::<
        anyhow::Result<blip_server::models::loaded_model::LoadedModel<ScriptedEngine>>,
    >();
    let server = Server::launch(Settings::default(), load, || ()).await;
    let response = post(&server, &ask_body(&[&["red"]])).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem(response).await["reason"], "MODEL_LOADING");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_accepted_in_headers_and_in_the_body() {
    let server = Server::start(settings_with_key(), echo_engine()).await;
    let request = ask_body(&[&["red"]]);
    let missing = post(&server, &request).await;
    assert!(missing.headers().contains_key(header::WWW_AUTHENTICATE));
    assert_eq!(problem(missing).await["reason"], "API_KEY_MISSING");
    let wrong = problem(post(&server, &with_field(request.clone(), "secret_token", "optional")).await).await;
    assert_eq!((&wrong["reason"], &wrong["status"]), (&json!("API_KEY_INVALID"), &json!(401)));
    assert_eq!(
        post(&server, &with_field(request.clone(), "secret_token", KEY)).await.status(),
        StatusCode::OK
    );
    let ask = http_client().post(format!("{}/v1/ask", server.http_address)).json(&request);
    let bearer = ask.try_clone().unwrap().bearer_auth(KEY).send().await.unwrap();
    assert_eq!(bearer.status(), StatusCode::OK);
    assert_eq!(ask.header("x-api-key", KEY).send().await.unwrap().status(), StatusCode::OK);
    for open in ["/", "/openapi.json", "/docs/"] {
        let response = http_client().get(format!("{}{open}", server.http_address)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{open}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_key_in_header_is_refused_before_the_body() {
    let server = Server::start(settings_with_key(), echo_engine()).await;
    let head = "POST /v1/ask HTTP/1.1\r\nhost: localhost\r\nx-api-key: wrong-key\r\ncontent-type: application/json\r\n\
                content-length: 1000000\r\n\r\n";
    let response = exchange(&server, head.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 401") && response.contains("API_KEY_INVALID"), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn body_size_is_limited_with_and_without_length() {
    let mut settings = Settings::default();
    settings.grpc.max_message_bytes = 100_000;
    let server = Server::start(settings, echo_engine()).await;
    let ask = http_client()
        .post(format!("{}/v1/ask", server.http_address))
        .header(header::CONTENT_TYPE, "application/json");
    let json = serde_json::to_vec(&ask_body(&[&["red"]])).unwrap();
    let spaces = move |count: usize| {
        let pieces = [json.clone(), vec![b' '; count - json.len()]];
        futures::stream::iter(pieces.map(Ok::<_, std::io::Error>))
    };
    let chunked = |count| ask.try_clone().unwrap().body(reqwest::Body::wrap_stream(spaces(count))).send();
    assert_eq!(chunked(100_000).await.unwrap().status(), StatusCode::OK);
    let too_long = problem(chunked(100_001).await.unwrap()).await;
    assert_eq!(
        (&too_long["reason"], &too_long["limit"]),
        (&json!("MESSAGE_TOO_LARGE"), &json!("100000 bytes"))
    );
    let announced = ask.body(vec![b' '; 50_000_000]).send().await.unwrap();
    assert_eq!(problem(announced).await["value"], "50000000 bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_upload_is_refused() {
    let mut settings = Settings::default();
    settings.grpc.upload_idle_timeout_s = 0;
    let server = Server::start(settings, echo_engine()).await;
    let head = "POST /v1/ask HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let response = exchange(&server, head.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 408") && response.contains("UPLOAD_STALLED"), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_headers_are_refused() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let request =
        format!("GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(17 << 10));
    assert!(exchange(&server, request.as_bytes()).await.starts_with("HTTP/1.1 431"));
    assert_eq!(post(&server, &ask_body(&[&["red"]])).await.status(), StatusCode::OK);
}
