//! The model card's JSON over a real socket: answers, refusals, streams, and connections of every manner.

use std::{sync::mpsc, time::Duration};

use futures::StreamExt as _;
use reqwest::{Response, StatusCode, header, multipart};
use serde_json::{Value, json};
use server::{config::Settings, serve::exit::Exit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    ScriptedEngine, Server, echo_engine, echo_answer, http_client, http_client_builder, test_image, wait_for, scripted_engine,
    cancellable_engine,
};

const KEY: &str = "correct-horse";

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The card's JSON for the test test_image, once for each list of questions.
fn card(texts: &[&[&str]]) -> Value {
    let image = json!({"base64": base64(&test_image())});
    json!({"inputs": {"texts": texts, "images": vec![image; texts.len()]}})
}

fn with(mut card: Value, field: &str, value: impl Into<Value>) -> Value {
    card[field] = value.into();
    card
}

async fn post(server: &Server, body: &Value) -> Response {
    http_client().post(format!("{}/v1/ask", server.http_address)).json(body).send().await.unwrap()
}

/// The problem that a response is, after its status was found to be the one that it names.
async fn problem(response: Response) -> Value {
    let status = response.status().as_u16();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    problem
}

async fn raw(server: &Server) -> TcpStream {
    TcpStream::connect(server.http_address.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Sends `request` as it is and reads until the server closes the connection.
async fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = raw(server).await;
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

fn with_keys() -> Settings {
    let mut settings = Settings::default();
    settings.auth.auth_keys = vec![KEY.parse().unwrap()];
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_cards_own_words_and_order() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let response = post(&server, &card(&[&["red", "how many"], &["green"]])).await;
    assert_eq!(
        (response.status(), &response.headers()[header::CONTENT_TYPE]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let expected = r#"{"captions":[{"image_results":["red","how many"]},{"image_results":["green"]}]}"#;
    assert_eq!(response.text().await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn details_stand_beside_the_answers() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let response: Value =
        post(&server, &with(card(&[&["red"]]), "details", true)).await.json().await.unwrap();
    let caption = &response["captions"][0];
    assert_eq!(caption["image_results"], json!(["red"]));
    let details = &caption["details"][0];
    assert_eq!((&details["score"], &details["timing"]["batch_images"]), (&json!(-0.5), &json!(1)));
    assert_eq!(details["timing"]["vision_ms"], 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_item_is_null_and_the_others_are_answered() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let mut request = card(&[&["red", " "], &["green"], &["dog"]]);
    request["inputs"]["images"][1] = json!({"base64": base64(b"no picture")});
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
async fn what_is_refused_as_a_whole_is_a_problem_that_names_its_reason() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let one_list_too_many = {
        let mut request = card(&[&["red"]]);
        request["inputs"]["texts"] = json!([["red"], ["green"]]);
        request
    };
    for (request, reason, field) in [
        (one_list_too_many, "TEXTS_MISMATCHED", "inputs.texts"),
        (json!({"inputs": {"texts": [], "images": []}}), "EMPTY_REQUEST", "inputs.images"),
        (card(&[&["red"], &[]]), "NO_QUESTIONS", "inputs.texts[1]"),
        (card(&[&["red"; 1025]]), "TOO_MANY_QUESTIONS", "inputs.texts"),
        (with(card(&[&["red"]]), "detail", true), "PAYLOAD_INVALID", "detail"),
        (with(card(&[&["red"]]), "priority", "urgent"), "PAYLOAD_INVALID", "priority"),
        (with(card(&[&["red"]]), "timeout_ms", 0), "PAYLOAD_INVALID", "timeout_ms"),
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
    let got = client.get(&ask).send().await.unwrap();
    assert_eq!(got.headers()[header::ALLOW], "POST");
    assert_eq!(problem(got).await["reason"], "METHOD_REFUSED");
    let elsewhere = client.get(format!("{ask}/nothing")).send().await.unwrap();
    assert_eq!(problem(elsewhere).await["detail"], "unknown route /v1/ask/nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_model_is_loaded_a_caller_is_told_so() {
    let load =
        std::future::pending::<anyhow::Result<server::models::loaded_model::LoadedModel<ScriptedEngine>>>();
    let server = Server::launch(Settings::default(), load, || ()).await;
    let response = post(&server, &card(&[&["red"]])).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem(response).await["reason"], "MODEL_LOADING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_from_a_header_or_from_the_card_and_nobody_else_gets_in() {
    let server = Server::start(with_keys(), echo_engine()).await;
    let request = card(&[&["red"]]);
    let missing = post(&server, &request).await;
    assert!(missing.headers().contains_key(header::WWW_AUTHENTICATE));
    assert_eq!(problem(missing).await["reason"], "API_KEY_MISSING");
    let wrong = problem(post(&server, &with(request.clone(), "secret_token", "optional")).await).await;
    assert_eq!((&wrong["reason"], &wrong["status"]), (&json!("API_KEY_INVALID"), &json!(401)));
    assert_eq!(post(&server, &with(request.clone(), "secret_token", KEY)).await.status(), StatusCode::OK);
    let ask = http_client().post(format!("{}/v1/ask", server.http_address)).json(&request);
    let bearer = ask.try_clone().unwrap().bearer_auth(KEY).send().await.unwrap();
    assert_eq!(bearer.status(), StatusCode::OK);
    assert_eq!(ask.header("x-api-key", KEY).send().await.unwrap().status(), StatusCode::OK);
    for open in ["/openapi.json", "/docs/"] {
        let response = http_client().get(format!("{}{open}", server.http_address)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{open}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_in_a_header_is_refused_before_the_body_is_there() {
    let server = Server::start(with_keys(), echo_engine()).await;
    let head = "POST /v1/ask HTTP/1.1\r\nhost: a\r\nx-api-key: wrong-key\r\ncontent-type: application/json\r\n\
                content-length: 1000000\r\n\r\n";
    let response = exchange(&server, head.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 401") && response.contains("API_KEY_INVALID"), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_answers_finish_and_the_last_one_counts_them() {
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let engine = scripted_engine(move |batch, rows| {
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_answer(batch, row)));
            // The next one waits until the test has seen this one.
            let _ = proceed_receiver.recv();
        }
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let request = with(card(&[&["red", "green", "dog"]]), "stream", true);
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
async fn an_accept_header_asks_for_events_as_well() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let ask = http_client().post(format!("{}/v1/ask", server.http_address)).json(&card(&[&["red", ""]]));
    let response = ask.header(header::ACCEPT, "text/event-stream").send().await.unwrap();
    let text = response.text().await.unwrap();
    assert!(
        text.contains("\"reason\":\"QUESTION_EMPTY\"") && text.contains("{\"answers\":1,\"errors\":1}"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_takes_his_work_along_with_or_without_events() {
    for stream in [false, true] {
        let (engine, running_receiver, cancelled_receiver) = cancellable_engine();
        let server = Server::start(Settings::default(), engine).await;
        let request = with(card(&[&["red", "how many"]]), "stream", stream);
        let call = tokio::spawn(async move {
            let response = post(&server, &request).await;
            response.bytes().await.unwrap();
        });
        wait_for(running_receiver).await;
        call.abort();
        // Ends only if every row is cancelled.
        wait_for(cancelled_receiver).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_answered_in_time_is_a_failed_item_and_its_work_is_dropped() {
    let (engine, _, cancelled_receiver) = cancellable_engine();
    let server = Server::start(Settings::default(), engine).await;
    let response = post(&server, &with(card(&[&["red", "green"]]), "timeout_ms", 100)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let response: Value = response.json().await.unwrap();
    assert_eq!(response["captions"], json!([{"image_results": [null, null]}]));
    for item in response["errors"].as_array().unwrap() {
        assert_eq!((&item["reason"], &item["status"]), (&json!("DEADLINE_EXCEEDED"), &json!(504)));
    }
    wait_for(cancelled_receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_carries_files_as_they_are() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let file = || multipart::Part::bytes(test_image()).file_name("picture.png");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_bounded_whether_its_length_is_known_or_not() {
    let mut settings = Settings::default();
    settings.grpc.max_message_bytes = 100_000;
    let server = Server::start(settings, echo_engine()).await;
    let ask = http_client()
        .post(format!("{}/v1/ask", server.http_address))
        .header(header::CONTENT_TYPE, "application/json");
    let json = serde_json::to_vec(&card(&[&["red"]])).unwrap();
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
async fn an_upload_that_stands_still_is_refused() {
    let mut settings = Settings::default();
    settings.grpc.upload_idle_timeout_s = 0;
    let server = Server::start(settings, echo_engine()).await;
    let head =
        "POST /v1/ask HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let response = exchange(&server, head.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 408") && response.contains("UPLOAD_STALLED"), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_pipeline_are_answered_in_their_order() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let request = |question: &str, connection: &str| {
        let body = card(&[&[question]]).to_string();
        format!(
            "POST /v1/ask HTTP/1.1\r\nhost: a\r\nconnection: {connection}\r\ncontent-type: application/json\r\n\
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
async fn giant_headers_are_refused() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let request =
        format!("GET /openapi.json HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(17 << 10));
    assert!(exchange(&server, request.as_bytes()).await.starts_with("HTTP/1.1 431"));
    assert_eq!(post(&server, &card(&[&["red"]])).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_to_whoever_begins_with_it() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let client = http_client_builder().http2_prior_knowledge().build().unwrap();
    let ask = client.post(format!("{}/v1/ask", server.http_address)).json(&card(&[&["red"]]));
    let response = ask.send().await.unwrap();
    assert_eq!((response.version(), response.status()), (reqwest::Version::HTTP_2, StatusCode::OK));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_may_call_only_from_an_origin_that_is_named() {
    let preflight = async |server: &Server, origin: &str| {
        let url = format!("{}/v1/ask", server.http_address);
        let request = http_client().request(reqwest::Method::OPTIONS, url).header(header::ORIGIN, origin);
        let response = request.header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST").send().await.unwrap();
        response
            .headers()
            .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let origin = "https://example.org";
    let closed = Server::start(Settings::default(), echo_engine()).await;
    assert_eq!(preflight(&closed, origin).await, None);
    let mut settings = Settings::default();
    settings.http.http_cors_origins = vec![origin.parse().unwrap()];
    let named = Server::start(settings.clone(), echo_engine()).await;
    assert_eq!(preflight(&named, origin).await.as_deref(), Some(origin));
    assert_eq!(preflight(&named, "https://example.com").await, None);
    settings.http.http_cors_origins = vec!["*".parse().unwrap()];
    let open = Server::start(settings, echo_engine()).await;
    assert_eq!(preflight(&open, "https://example.com").await.as_deref(), Some("*"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_a_strangers_page_sends_unasked_is_refused() {
    let mut settings = Settings::default();
    settings.http.http_cors_origins = vec!["https://example.org".parse().unwrap()];
    let server = Server::start(settings, echo_engine()).await;
    let send = async |origin: &str| {
        let form =
            multipart::Form::new().part("image", multipart::Part::bytes(test_image())).text("question", "red");
        let ask = http_client().post(format!("{}/v1/ask", server.http_address)).multipart(form);
        ask.header(header::ORIGIN, origin).send().await.unwrap()
    };
    for own_or_named in [server.http_address.as_str(), "https://example.org"] {
        assert_eq!(send(own_or_named).await.status(), StatusCode::OK, "{own_or_named}");
    }
    for strange in ["https://example.com", "null", "http://127.0.0.1:1"] {
        assert_eq!(problem(send(strange).await).await["reason"], "ORIGIN_REFUSED", "{strange}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_is_found_from_the_root() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let page = http_client().get(&server.http_address).send().await.unwrap();
    assert_eq!((page.url().path(), page.status()), ("/docs/", StatusCode::OK));
    let errors = http_client()
        .get(format!("{}/docs/errors", server.http_address))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(errors.contains("id=\"TEXTS_MISMATCHED\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_answers_what_is_in_flight_and_closes_idle_connections_at_once() {
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let (running, running_receiver) = mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        let _ = running.send(());
        let _ = proceed_receiver.recv();
        rows.finish(0, Ok(echo_answer(batch, 0)));
        Ok(())
    });
    let server = Server::start(Settings::default(), engine).await;
    let mut idle = raw(&server).await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 307");

    let ask = http_client().post(format!("{}/v1/ask", server.http_address)).json(&card(&[&["red"]]));
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
async fn a_connection_that_is_too_old_is_closed() {
    let mut settings = Settings::default();
    settings.grpc.max_connection_age_s = 1;
    let server = Server::start(settings, echo_engine()).await;
    let mut old = raw(&server).await;
    old.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), old.read_to_end(&mut response)).await;
    closed.unwrap().unwrap();
    assert!(response.starts_with(b"HTTP/1.1 307"));
}
