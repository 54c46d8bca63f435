//! Corrupt contents and disks that cannot store them.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use axum::http::Method;

use crate::server::{Fault, MODEL, ServedFile, TestHub, WEIGHTS};

fn assert_nothing_left(hub: &TestHub) {
    assert!(!hub.in_cache("refs/main").exists());
    let tag = hub.file(WEIGHTS).tag();
    assert!(!hub.in_cache(&format!("blobs/{tag}")).exists());
    assert!(!hub.in_cache(&format!("blobs/{tag}.incomplete")).exists());
}

#[tokio::test]
async fn content_with_wrong_hash_is_discarded() {
    let hub = TestHub::new().await;
    let content = hub.file(WEIGHTS).content;
    let tag = "e".repeat(64);
    hub.put(WEIGHTS, ServedFile { content, is_large: true, tag: Some(tag.clone()), size: None });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("mismatch of model.safetensors: sha256") && error.contains(&tag), "{error}");
    assert_eq!(hub.content_requests(WEIGHTS).len(), 1);
    assert_nothing_left(&hub);
}

#[tokio::test]
async fn small_file_with_wrong_hash_is_an_error() {
    let hub = TestHub::new().await;
    let tag = Some("e".repeat(40));
    hub.put("config.json", ServedFile { content: b"{}".to_vec(), tag, ..ServedFile::default() });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("mismatch of config.json: git hash"), "{error}");
}

#[tokio::test]
async fn content_longer_than_declared_is_an_error() {
    let hub = TestHub::new().await;
    hub.inject(WEIGHTS, Method::GET, [Fault::ExtraBytes(100 << 20)]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("longer than 3000000 bytes"), "{error}");
    assert_nothing_left(&hub);
}

#[tokio::test]
async fn content_shorter_than_declared_fails_after_retries() {
    let hub = TestHub::new().await;
    let weights = hub.file(WEIGHTS);
    let tag = Some(weights.tag());
    let size = Some(weights.content.len() as u64 + 1);
    hub.put(WEIGHTS, ServedFile { content: weights.content, is_large: true, tag, size });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("model.safetensors"), "{error}");
    assert!(hub.content_requests(WEIGHTS).len() <= 8, "{}", hub.content_requests(WEIGHTS).len());
    assert!(!hub.in_cache("refs/main").exists());
}

#[tokio::test]
async fn transfer_that_always_breaks_fails_after_retries() {
    let hub = TestHub::new().await;
    hub.inject(WEIGHTS, Method::GET, vec![Fault::BreakAfter(10); 100]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("for model.safetensors") && error.starts_with("cannot reach"), "{error}");
    assert_eq!(hub.content_requests(WEIGHTS).len(), 6);
}

#[tokio::test]
async fn silent_server_fails_after_retries() {
    let mut hub = TestHub::new().await;
    hub.config.download_timeout = Duration::from_millis(1);
    hub.inject(WEIGHTS, Method::GET, vec![Fault::NoResponse; 100]);
    // On a busy machine, small files may time out, too.
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("no response within 0.001 s") || error.contains("no data for 0.001 s"), "{error}");
}

#[tokio::test]
async fn insufficient_disk_space_fails_before_download() {
    let hub = TestHub::new().await;
    let size = Some(1 << 60);
    hub.put(WEIGHTS, ServedFile { content: vec![0; 10], is_large: true, tag: None, size });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("free, 1.00 EiB needed"), "{error}");
    assert!(hub.content_requests(WEIGHTS).is_empty());
}

#[tokio::test]
async fn unwritable_cache_is_reported() {
    let mut hub = TestHub::new().await;
    let file = hub.folder.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    hub.config.cache = file.join("hub");
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("file/hub") && error.contains("ot a directory"), "{error}");
}

#[tokio::test]
async fn truncated_blob_is_downloaded_again() {
    let hub = TestHub::new().await;
    let blob = hub.in_cache(&format!("blobs/{}", hub.file(WEIGHTS).tag()));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, "").unwrap();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
}
