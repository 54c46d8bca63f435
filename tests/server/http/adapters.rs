//! What the adapters for other APIs share with the native routes: cancellation, deadlines, keys,
//! quotas and limits.

use blip::RowOutput;
use blip_server::config::Settings;
use proto::inference::{
    InferTensorContents, ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::InferInputTensor,
};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use super::{KEY, base64, connect, settings_with_key};
use crate::support::{
    Server, cancellable_engine, echo_answer, echo_engine, http_client, scripted_engine, test_image, wait_for,
};

/// Returns the path and the body of a question about the test image in each API.
fn questions(question: &str) -> Vec<(&'static str, Value)> {
    let image = base64(&test_image());
    let part = json!({"type": "image_url", "image_url": format!("data:image/png;base64,{image}")});
    let content = json!([{"type": "text", "text": question}, part]);
    let tensor =
        |name: &str, text: &str| json!({"name": name, "shape": [1], "datatype": "BYTES", "data": [text]});
    let instances = json!([{"image": image, "question": question}]);
    vec![
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": content}]})),
        ("/", json!({"inputs": {"image": image, "question": question}})),
        (
            "/v2/models/scripted/infer",
            json!({"inputs": [tensor("image", &image), tensor("question", question)]}),
        ),
        ("/v1/models/scripted:predict", json!({"instances": instances})),
        ("/invocations", json!({"instances": instances})),
    ]
}

/// Returns the answer in a response of one of the APIs.
fn answer(response: &Value) -> &Value {
    let places = ["/choices/0/message/content", "/0/answer", "/outputs/0/data/0", "/predictions/0/answer"];
    places.iter().find_map(|place| response.pointer(place)).unwrap()
}

/// Returns the message of an error of one of the APIs.
fn message(response: &Value) -> &str {
    response["error"].as_str().or(response["error"]["message"].as_str()).unwrap()
}

async fn post(server: &Server, path: &str, body: &Value) -> reqwest::Response {
    http_client().post(format!("{}{path}", server.http_address)).json(body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn question_is_answered_in_every_api() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    for (path, body) in questions("red") {
        let response = post(&server, path, &body).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(answer(&response.json().await.unwrap()), "red", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connection_cancels_rows_of_every_api() {
    let streamed = questions("red").into_iter().take(1).map(|(path, mut body)| {
        body["stream"] = true.into();
        (path, body)
    });
    for (path, body) in questions("red").into_iter().chain(streamed) {
        let (engine, running_receiver, cancelled_receiver) = cancellable_engine();
        let server = Server::start(Settings::default(), engine).await;
        let call = tokio::spawn(async move { post(&server, path, &body).await.bytes().await.unwrap() });
        wait_for(running_receiver).await;
        call.abort();
        // The engine sends this when every row is cancelled.
        wait_for(cancelled_receiver).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn default_deadline_ends_calls_of_every_api() {
    let mut settings = Settings::default();
    settings.limits.default_deadline_s = 1;
    for (path, body) in questions("red") {
        let (engine, _, cancelled_receiver) = cancellable_engine();
        let server = Server::start(settings.clone(), engine).await;
        let response = post(&server, path, &body).await;
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT, "{path}");
        let response: Value = response.json().await.unwrap();
        assert_eq!(message(&response), "deadline exceeded before the answer was ready", "{path}");
        wait_for(cancelled_receiver).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_checked_before_the_body_is_read() {
    let server = Server::start(settings_with_key(), echo_engine()).await;
    for (path, body) in questions("red") {
        // The body never arrives.
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: 1000000\r\nauthorization: Bearer wrong\r\nconnection: close\r\n\r\n"
        );
        let rejected = exchange_head(&server, &head).await;
        assert!(rejected.starts_with("HTTP/1.1 401"), "{path}: {rejected}");
        assert!(rejected.to_ascii_lowercase().contains("www-authenticate: bearer"), "{rejected}");
        let url = format!("{}{path}", server.http_address);
        let accepted = http_client().post(url).header("x-api-key", KEY).json(&body).send().await.unwrap();
        assert_eq!(accepted.status(), StatusCode::OK, "{path}");
    }
}

/// Sends the head of a request, and reads until the head of the response is complete.
async fn exchange_head(server: &Server, head: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = connect(server).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.windows(4).any(|window| window == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut response).await.unwrap() > 0, "the connection was closed");
    }
    String::from_utf8(response).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_server_hold_in_every_api() {
    let mut settings = Settings::default();
    settings.grpc.max_message_bytes = 20_000;
    settings.limits.max_question_bytes = 10;
    let server = Server::start(settings, echo_engine()).await;
    for (path, body) in questions("how many circles") {
        let response = post(&server, path, &body).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        let response: Value = response.json().await.unwrap();
        assert!(message(&response).contains("too long: 16 bytes, 10 bytes allowed"), "{response}");
    }
    for (path, _) in questions("red") {
        let response = post(&server, path, &json!({"x": "x".repeat(20_000)})).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let response: Value = response.json().await.unwrap();
        assert!(message(&response).starts_with("request message too large"), "{response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_cannot_call_adapters() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    for (path, body) in questions("red") {
        let url = format!("{}{path}", server.http_address);
        let request = http_client().post(url).header(header::ORIGIN, "https://evil.example").json(&body);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{path}");
    }
}

/// Returns a question as typed tensors over gRPC.
fn infer_request(question: &str) -> ModelInferRequest {
    let input = |name: &str, element: Vec<u8>| InferInputTensor {
        name: name.to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![1],
        contents: Some(InferTensorContents {
            bytes_contents: vec![element.into()],
            ..InferTensorContents::default()
        }),
        ..InferInputTensor::default()
    };
    let inputs = vec![input("image", test_image()), input("question", question.as_bytes().to_vec())];
    ModelInferRequest { model_name: "scripted".to_owned(), inputs, ..ModelInferRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_tensors_over_grpc_are_answered_in_kind() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let mut client = GrpcInferenceServiceClient::new(server.channel().await);
    let response = client.model_infer(infer_request("red")).await.unwrap().into_inner();
    assert!(response.raw_output_contents.is_empty());
    let contents = |index: usize| response.outputs[index].contents.as_ref().unwrap();
    assert_eq!(contents(0).bytes_contents, ["red"]);
    assert_eq!(contents(1).fp32_contents, [-0.5]);
}

/// While they are computed, results of any length count as 2 KiB each. The message that they become
/// counts with its length.
#[tokio::test(flavor = "multi_thread")]
async fn response_over_grpc_counts_towards_unread_memory() {
    let mut settings = Settings::default();
    settings.limits.max_unread_response_bytes = 2400;
    let engine = scripted_engine(|batch, rows| {
        for row in 0..batch.questions.len() {
            let mut output = echo_answer(batch, row);
            if let RowOutput::Generated(sequences) = &mut output.answer.output
                && sequences[0].token_ids.len() > 3
            {
                sequences[0].token_ids = sequences[0].token_ids.repeat(1000);
            }
            rows.finish(row, Ok(output));
        }
        Ok(())
    });
    let server = Server::start(settings, engine).await;
    let mut client = GrpcInferenceServiceClient::new(server.channel().await);
    client.model_infer(infer_request("red")).await.unwrap();
    let status = client.model_infer(infer_request("red red")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("bytes of the client's unread responses"), "{status}");
    // The memory of the earlier response was returned.
    client.model_infer(infer_request("red")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deadline_of_a_grpc_client_cancels_its_rows() {
    let (engine, _, cancelled_receiver) = cancellable_engine();
    let server = Server::start(Settings::default(), engine).await;
    let mut client = GrpcInferenceServiceClient::new(server.channel().await);
    let mut request = tonic::Request::new(infer_request("red"));
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let status = client.model_infer(request).await.unwrap_err();
    // The client has a timer, too, which may be first.
    assert!(matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{status}");
    wait_for(cancelled_receiver).await;
}
