//! What the cache spares.

use std::fs;

use axum::http::Method;

use crate::server::{COMMIT, Fault, MODEL, TestHub, WEIGHTS};

#[tokio::test]
async fn the_layout_is_that_of_huggingface_hub() {
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
async fn a_model_that_is_there_costs_one_question() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert_eq!(hub.requests().len(), 1);
}

#[tokio::test]
async fn a_commit_that_is_there_costs_none() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(&format!("org/name@{COMMIT}")).await.unwrap());
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn offline_touches_no_network() {
    let mut hub = TestHub::new().await;
    hub.config.offline = true;
    let error = hub.error_text(MODEL).await;
    assert!(
        error.starts_with("HF_HUB_OFFLINE is set") && error.ends_with("no snapshot of org/name@main"),
        "{error}"
    );
    hub.config.offline = false;
    hub.fetch(MODEL).await.unwrap();
    hub.config.offline = true;
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert!(hub.requests().is_empty());
    fs::remove_file(hub.in_cache(&format!("snapshots/{COMMIT}/{WEIGHTS}"))).unwrap();
    let error = hub.error_text(MODEL).await;
    assert!(error.ends_with("no model.safetensors nor pytorch_model.bin of org/name@main"), "{error}");
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn while_the_hub_is_down_the_cache_does() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    hub.inject("main", Method::GET, [Fault::Status(503, &[])]);
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    hub.stop();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert!(hub.sleeps.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_went_missing_is_linked_again_and_not_downloaded() {
    let hub = TestHub::new().await;
    hub.fetch(MODEL).await.unwrap();
    fs::remove_file(hub.in_cache(&format!("snapshots/{COMMIT}/{WEIGHTS}"))).unwrap();
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert!(hub.content_requests(WEIGHTS).is_empty());
}
