//! Errors that the hub reports, and invalid responses.

use axum::http::Method;

use crate::server::{COMMIT, Fault, MODEL, ServedFile, TestHub, WEIGHTS};

#[tokio::test]
async fn missing_model_is_reported_with_a_remedy() {
    let mut hub = TestHub::new().await;
    let error = hub.error_text("org/other").await;
    assert!(error.contains("127.0.0.1") && error.contains("has no model org/other"), "{error}");
    assert!(error.contains("set HF_TOKEN"), "{error}");
    hub.with_token();
    let error = hub.error_text("org/other").await;
    assert!(error.contains("the access token does not permit it"), "{error}");
    assert!(hub.sleeps.lock().unwrap().is_empty());
}

#[tokio::test]
async fn missing_revision_is_reported() {
    let hub = TestHub::new().await;
    let error = hub.error_text("org/name@v9").await;
    assert!(error.starts_with("org/name has no revision v9 on http://127.0.0.1"), "{error}");
}

#[tokio::test]
async fn gated_model_differs_from_a_missing_one() {
    let hub = TestHub::new().await;
    hub.inject(WEIGHTS, Method::HEAD, [Fault::Status(403, &[("x-error-code", "GatedRepo")])]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("org/name is gated") && error.contains("accept its terms"), "{error}");
}

#[tokio::test]
async fn unsupported_weights_are_listed_in_the_error() {
    let hub = TestHub::new().await;
    hub.remove(WEIGHTS);
    hub.put("tf_model.h5", ServedFile { content: vec![0; 10], is_large: true, ..ServedFile::default() });
    let error = hub.error_text(MODEL).await;
    assert_eq!(error, "org/name@main has no model.safetensors or pytorch_model.bin; found: tf_model.h5");
    assert!(hub.requests().len() == 1, "{:?}", hub.requests());
}

#[tokio::test]
async fn unavailable_hub_fails_after_retries() {
    let hub = TestHub::new().await;
    hub.inject("main", Method::GET, vec![Fault::Status(503, &[]); 100]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("responded with status 503 for org/name@main"), "{error}");
    assert_eq!(hub.requests().len(), 6);
}

#[tokio::test]
async fn requested_delay_of_an_hour_is_an_error() {
    let hub = TestHub::new().await;
    hub.inject("main", Method::GET, [Fault::Status(429, &[("retry-after", "3600")])]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("retry after 3600 s"), "{error}");
    assert_eq!(hub.requests().len(), 1);
}

#[tokio::test]
async fn message_of_the_hub_is_in_the_error() {
    let hub = TestHub::new().await;
    let headers =
        [("x-error-code", "DisabledRepo"), ("x-error-message", "Access to this resource is disabled.")];
    hub.inject("main", Method::GET, [Fault::Status(403, Box::leak(Box::new(headers)))]);
    let error = hub.error_text(MODEL).await;
    assert!(error.ends_with("status 403 for org/name@main: Access to this resource is disabled."), "{error}");
}

#[tokio::test]
async fn endless_redirects_are_an_error() {
    let hub = TestHub::new().await;
    let again = [("location", "/org/name/resolve/0123456789abcdef0123456789abcdef01234567/config.json")];
    let again: &'static [_] = Box::leak(Box::new(again));
    hub.inject("config.json", Method::GET, vec![Fault::Status(307, again); 100]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("more than 8 redirects"), "{error}");
}

#[tokio::test]
async fn redirect_to_a_local_file_is_an_error() {
    let hub = TestHub::new().await;
    hub.inject("config.json", Method::GET, [Fault::Status(302, &[("location", "file:///etc/passwd")])]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("redirect to an insecure or unsupported scheme"), "{error}");
}

#[tokio::test]
async fn tag_that_is_not_a_hash_is_an_error() {
    let hub = TestHub::new().await;
    let tag = Some("../../../../x".to_owned());
    hub.put("config.json", ServedFile { content: b"{}".to_vec(), tag, ..ServedFile::default() });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("expected a SHA-1 or SHA-256 hash"), "{error}");
}

#[tokio::test]
async fn unreachable_hub_is_reported() {
    let mut hub = TestHub::new().await;
    hub.with_token();
    hub.config.endpoint = "http://127.0.0.1:1".parse().unwrap();
    let error = hub.error_text(&format!("org/name@{COMMIT}")).await;
    assert!(error.starts_with("cannot reach 127.0.0.1:1 for org/name@"), "{error}");
    assert!(error.contains("refused"), "{error}");
}
