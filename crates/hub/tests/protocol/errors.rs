//! What the hub does not give, and what it says that is no sense.

use axum::http::Method;

use crate::server::{COMMIT, Fault, MODEL, ServedFile, TestHub, WEIGHTS};

#[tokio::test]
async fn a_model_that_is_not_there_is_named_with_what_could_help() {
    let mut hub = TestHub::new().await;
    let error = hub.error_text("org/other").await;
    assert!(error.contains("127.0.0.1") && error.contains("has no model org/other"), "{error}");
    assert!(error.contains("set HF_TOKEN"), "{error}");
    hub.with_token();
    let error = hub.error_text("org/other").await;
    assert!(error.contains("not for the owner of the access token"), "{error}");
    assert!(hub.sleeps.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_revision_that_is_not_there_is_named() {
    let hub = TestHub::new().await;
    let error = hub.error_text("org/name@v9").await;
    assert!(error.starts_with("org/name has no revision v9 on http://127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_gated_model_is_told_from_one_that_is_not_there() {
    let hub = TestHub::new().await;
    hub.inject(WEIGHTS, Method::HEAD, [Fault::Status(403, &[("x-error-code", "GatedRepo")])]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("org/name is gated") && error.contains("agree to its terms"), "{error}");
}

#[tokio::test]
async fn a_model_without_weights_that_can_be_read_is_told_what_it_has() {
    let hub = TestHub::new().await;
    hub.remove(WEIGHTS);
    hub.put("tf_model.h5", ServedFile { content: vec![0; 10], is_large: true, ..ServedFile::default() });
    let error = hub.error_text(MODEL).await;
    assert_eq!(error, "org/name@main has no model.safetensors nor pytorch_model.bin; it has tf_model.h5");
    assert!(hub.requests().len() == 1, "{:?}", hub.requests());
}

#[tokio::test]
async fn a_hub_that_stays_down_is_given_up_in_the_end() {
    let hub = TestHub::new().await;
    hub.inject("main", Method::GET, vec![Fault::Status(503, &[]); 100]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("answered 503 for org/name@main"), "{error}");
    assert_eq!(hub.requests().len(), 6);
}

#[tokio::test]
async fn a_hub_that_wants_to_be_left_alone_for_an_hour_is_left_alone() {
    let hub = TestHub::new().await;
    hub.inject("main", Method::GET, [Fault::Status(429, &[("retry-after", "3600")])]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("asks to wait 3600 s"), "{error}");
    assert_eq!(hub.requests().len(), 1);
}

#[tokio::test]
async fn the_words_of_the_hub_are_passed_on() {
    let hub = TestHub::new().await;
    let said =
        [("x-error-code", "DisabledRepo"), ("x-error-message", "Access to this resource is disabled.")];
    hub.inject("main", Method::GET, [Fault::Status(403, Box::leak(Box::new(said)))]);
    let error = hub.error_text(MODEL).await;
    assert!(
        error.ends_with("answered 403 for org/name@main: Access to this resource is disabled."),
        "{error}"
    );
}

#[tokio::test]
async fn redirects_without_end_are_followed_to_a_limit() {
    let hub = TestHub::new().await;
    let again = [("location", "/org/name/resolve/0123456789abcdef0123456789abcdef01234567/config.json")];
    let again: &'static [_] = Box::leak(Box::new(again));
    hub.inject("config.json", Method::GET, vec![Fault::Status(307, again); 100]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("redirects more than 8 times"), "{error}");
}

#[tokio::test]
async fn a_redirect_that_leads_to_a_file_is_not_followed() {
    let hub = TestHub::new().await;
    hub.inject("config.json", Method::GET, [Fault::Status(302, &[("location", "file:///etc/passwd")])]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("redirects from"), "{error}");
}

#[tokio::test]
async fn a_file_whose_tag_is_no_hash_is_refused() {
    let hub = TestHub::new().await;
    let tag = Some("../../../../x".to_owned());
    hub.put("config.json", ServedFile { content: b"{}".to_vec(), tag, ..ServedFile::default() });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("is no hash to check it by"), "{error}");
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_named() {
    let mut hub = TestHub::new().await;
    hub.with_token();
    hub.config.endpoint = "http://127.0.0.1:1".parse().unwrap();
    let error = hub.error_text(&format!("org/name@{COMMIT}")).await;
    assert!(error.starts_with("127.0.0.1:1 cannot be reached for org/name@"), "{error}");
    assert!(error.contains("refused"), "{error}");
}
