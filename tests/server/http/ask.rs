//! Answers, details, events and forms of `POST /v1/ask`.

use std::sync::mpsc;

use blip_server::config::Settings;
use futures::StreamExt as _;
use reqwest::{StatusCode, header, multipart};
use serde_json::{Value, json};

use super::{ask_body, base64, post, with_field};
use crate::support::{
    Server, cancellable_engine, echo_answer, echo_engine, http_client, scripted_engine, test_image, wait_for,
};

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_json_of_the_model_card() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let response = post(&server, &ask_body(&[&["red", "how many"], &["green"]])).await;
    assert_eq!(
        (response.status(), &response.headers()[header::CONTENT_TYPE]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let expected = r#"{"captions":[{"image_results":["red","how many"]},{"image_results":["green"]}]}"#;
    assert_eq!(response.text().await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn details_are_returned_on_request() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let response: Value =
        post(&server, &with_field(ask_body(&[&["red"]]), "details", true)).await.json().await.unwrap();
    let caption = &response["captions"][0];
    assert_eq!(caption["image_results"], json!(["red"]));
    let details = &caption["details"][0];
    assert_eq!((&details["score"], &details["timing"]["batch_images"]), (&json!(-0.5), &json!(1)));
    assert_eq!(details["timing"]["vision_ms"], 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_item_is_null_and_others_are_answered() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let mut request = ask_body(&[&["red", " "], &["green"], &["dog"]]);
    request["inputs"]["images"][1] = json!({"base64": base64(b"no image")});
    request["inputs"]["images"][2] = json!({"url": "http://127.0.0.1/dog.png"});
    let response = post(&server, &request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let response: Value = response.json().await.unwrap();
    let results =
        json!([{"image_results": ["red", null]}, {"image_results": [null]}, {"image_results": [null]}]);
    assert_eq!(response["captions"], results);
    let reasons: Vec<_> = response["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (
                item["image"].as_u64().unwrap(),
                item["reason"].as_str().unwrap(),
                item["field"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        reasons,
        [
            (0, "QUESTION_EMPTY", "inputs.texts[0][1]"),
            (1, "IMAGE_FORMAT_UNKNOWN", "inputs.images[1].base64"),
            (2, "URL_ADDRESS_REFUSED", "inputs.images[2].url"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_answers_finish_and_last_one_counts() {
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let engine = scripted_engine(move |batch, rows| {
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_answer(batch, row)));
            // The next row waits until the test has received this answer.
            let _ = proceed_receiver.recv();
        }
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let request = with_field(ask_body(&[&["red", "green", "dog"]]), "stream", true);
    let response = post(&server, &request).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.bytes_stream();
    let mut received = String::new();
    for count in 1..=3 {
        while received.matches("event: answer\n").count() < count {
            received.push_str(str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
        }
        assert!(!received.contains("event: end"));
        proceed.send(()).unwrap();
    }
    while let Some(piece) = body.next().await {
        received.push_str(str::from_utf8(&piece.unwrap()).unwrap());
    }
    assert!(received.ends_with("event: end\ndata: {\"answers\":3,\"errors\":0}\n\n"), "{received}");
    assert!(received.contains("data: {\"image\":0,\"question\":2,\"answer\":\"dog\"}\n"), "{received}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accept_header_selects_events() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let ask = http_client().post(format!("{}/v1/ask", server.http_address)).json(&ask_body(&[&["red", ""]]));
    let response = ask.header(header::ACCEPT, "text/event-stream").send().await.unwrap();
    let text = response.text().await.unwrap();
    assert!(
        text.contains("\"reason\":\"QUESTION_EMPTY\"") && text.contains("{\"answers\":1,\"errors\":1}"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connection_cancels_rows_with_and_without_events() {
    for stream in [false, true] {
        let (engine, running_receiver, cancelled_receiver) = cancellable_engine();
        let server = Server::start(Settings::default(), engine).await;
        let request = with_field(ask_body(&[&["red", "how many"]]), "stream", stream);
        let call = tokio::spawn(async move {
            let response = post(&server, &request).await;
            response.bytes().await.unwrap();
        });
        wait_for(running_receiver).await;
        call.abort();
        // The engine sends this when every row is cancelled.
        wait_for(cancelled_receiver).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_timeout_fails_items_and_cancels_their_rows() {
    let (engine, _, cancelled_receiver) = cancellable_engine();
    let server = Server::start(Settings::default(), engine).await;
    let response = post(&server, &with_field(ask_body(&[&["red", "green"]]), "timeout_ms", 100)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let response: Value = response.json().await.unwrap();
    assert_eq!(response["captions"], json!([{"image_results": [null, null]}]));
    for item in response["errors"].as_array().unwrap() {
        assert_eq!((&item["reason"], &item["status"]), (&json!("DEADLINE_EXCEEDED"), &json!(504)));
    }
    wait_for(cancelled_receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn form_carries_image_files() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let file = || multipart::Part::bytes(test_image()).file_name("image.png");
    let send = async |form: multipart::Form| {
        let ask = http_client().post(format!("{}/v1/ask", server.http_address));
        ask.multipart(form).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let form = || multipart::Form::new().part("image", file()).part("image", file());
    let shared = send(form().text("questions", r#"["red", "dog"]"#)).await;
    assert_eq!(
        shared["captions"],
        json!([{"image_results": ["red", "dog"]}, {"image_results": ["red", "dog"]}])
    );
    let each = send(form().text("texts", r#"[["red"], ["dog", ""]]"#)).await;
    assert_eq!(each["captions"], json!([{"image_results": ["red"]}, {"image_results": ["dog", null]}]));
    assert_eq!(each["errors"][0]["field"], "texts[1][1]");
    assert_eq!(send(form()).await["field"], "questions");
}
