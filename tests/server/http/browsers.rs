//! Requests of web browsers: CORS, forms of other origins, and documentation.

use blip_server::config::Settings;
use reqwest::{StatusCode, header, multipart};

use super::problem;
use crate::support::{Server, echo_engine, http_client, test_image};

#[tokio::test(flavor = "multi_thread")]
async fn preflight_allows_only_configured_origins() {
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
    let without_origins = Server::start(Settings::default(), echo_engine()).await;
    assert_eq!(preflight(&without_origins, origin).await, None);
    let mut settings = Settings::default();
    settings.http.http_cors_origins = vec![origin.parse().unwrap()];
    let with_origin = Server::start(settings.clone(), echo_engine()).await;
    assert_eq!(preflight(&with_origin, origin).await.as_deref(), Some(origin));
    assert_eq!(preflight(&with_origin, "https://example.com").await, None);
    settings.http.http_cors_origins = vec!["*".parse().unwrap()];
    let with_any = Server::start(settings, echo_engine()).await;
    assert_eq!(preflight(&with_any, "https://example.com").await.as_deref(), Some("*"));
}

/// Headers of openai-node, of `@huggingface/inference`, and of clients with binary tensors. The
/// adapter tests compare those of the first two with what the packages send.
#[tokio::test(flavor = "multi_thread")]
async fn preflight_allows_the_headers_of_browser_clients() {
    let mut settings = Settings::default();
    settings.http.http_cors_origins = vec!["https://example.org".parse().unwrap()];
    let server = Server::start(settings, echo_engine()).await;
    let url = format!("{}/v1/chat/completions", server.http_address);
    let requested = "authorization,content-type,user-agent,x-stainless-lang,x-stainless-retry-count,x-stainless-timeout,\
                     openai-organization,x-hf-bill-to,inference-header-content-length";
    let request = http_client()
        .request(reqwest::Method::OPTIONS, url)
        .header(header::ORIGIN, "https://example.org")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, requested);
    let response = request.send().await.unwrap();
    let allowed = response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap().to_owned();
    let allowed: Vec<&str> = allowed.split(',').collect();
    for name in requested.split(',') {
        assert!(allowed.contains(&name), "{name} is not in {allowed:?}");
    }
    assert!(!allowed.contains(&"*") && !allowed.contains(&"cookie"), "{allowed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn form_from_other_origin_is_refused() {
    let mut settings = Settings::default();
    settings.http.http_cors_origins = vec!["https://example.org".parse().unwrap()];
    let server = Server::start(settings, echo_engine()).await;
    let send = async |origin: &str| {
        let form = multipart::Form::new()
            .part("image", multipart::Part::bytes(test_image()))
            .text("question", "red");
        let ask = http_client().post(format!("{}/v1/ask", server.http_address)).multipart(form);
        ask.header(header::ORIGIN, origin).send().await.unwrap()
    };
    for origin in [server.http_address.as_str(), "https://example.org"] {
        assert_eq!(send(origin).await.status(), StatusCode::OK, "{origin}");
    }
    for origin in ["https://example.com", "null", "http://127.0.0.1:1"] {
        assert_eq!(problem(send(origin).await).await["reason"], "ORIGIN_REFUSED", "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_a_page_for_get_and_head() {
    let server = Server::start(Settings::default(), echo_engine()).await;
    let page = http_client().get(&server.http_address).send().await.unwrap();
    assert_eq!((page.url().path(), page.status()), ("/", StatusCode::OK));
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'"));
    let length = page.headers()[header::CONTENT_LENGTH].clone();
    let html = page.text().await.unwrap();
    assert_eq!(length, html.len().to_string());
    let head = http_client().head(&server.http_address).send().await.unwrap();
    assert_eq!((head.status(), &head.headers()[header::CONTENT_LENGTH]), (StatusCode::OK, &length));
    let script = http_client().get(format!("{}/page/main.js", server.http_address)).send().await.unwrap();
    assert_eq!(script.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    let missing = http_client().get(format!("{}/page/other.js", server.http_address)).send().await.unwrap();
    assert_eq!(problem(missing).await["reason"], "ROUTE_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_their_descriptions() {
    let server = Server::start(Settings::default(), echo_engine()).await;
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
