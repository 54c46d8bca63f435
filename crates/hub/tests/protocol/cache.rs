//! Requests that the cache makes unnecessary.

use std::fs;

use axum::http::Method;

use crate::server::{COMMIT, Fault, MODEL, TestHub, WEIGHTS};

#[tokio::test]
async fn cache_layout_equals_huggingface_hub() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    assert_eq!(fs::read_to_string(hub.in_cache("refs/main")).unwrap(), COMMIT);
    for file in ["config.json", WEIGHTS] {
        let link = fs::read_link(hub.in_cache(&format!("snapshots/{COMMIT}/{file}"))).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("../../blobs/{}", hub.file(file).tag()));
    }
    assert!(hub.in_cache(&format!(".no_exist/{COMMIT}/generation_config.json")).is_file());
    let lock = format!(".locks/models--org--name/{}.lock", hub.file(WEIGHTS).tag());
    assert!(hub.config.cache.join(lock).is_file());
}

#[tokio::test]
async fn cached_model_needs_one_request() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert_eq!(hub.requests().len(), 1);
}

#[tokio::test]
async fn cached_commit_needs_no_request() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(&format!("org/name@{COMMIT}")).await.unwrap());
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn offline_fetch_sends_no_request() {
    let mut hub = TestHub::new().await;
    hub.config.offline = true;
    let error = hub.error_text(MODEL).await;
    assert!(error.starts_with("cannot load org/name@main offline: no snapshot in"), "{error}");
    hub.config.offline = false;
    hub.fetch(MODEL).await.unwrap();
    hub.config.offline = true;
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert!(hub.requests().is_empty());
    fs::remove_file(hub.in_cache(&format!("snapshots/{COMMIT}/{WEIGHTS}"))).unwrap();
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("offline: no model.safetensors or pytorch_model.bin in"), "{error}");
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn cached_model_is_used_while_the_hub_is_down() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    hub.inject("main", Method::GET, [Fault::Status(503, &[])]);
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    hub.stop();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert!(hub.sleeps.lock().unwrap().is_empty());
}

#[tokio::test]
async fn missing_link_is_restored_without_download() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    fs::remove_file(hub.in_cache(&format!("snapshots/{COMMIT}/{WEIGHTS}"))).unwrap();
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert!(hub.content_requests(WEIGHTS).is_empty());
}
