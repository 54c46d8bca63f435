//! Contents that are not what they should be, and disks that take none.

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
async fn content_with_another_hash_is_refused_and_not_kept() {
    let hub = TestHub::new().await;
    let content = hub.file(WEIGHTS).content;
    let tag = "e".repeat(64);
    hub.put(WEIGHTS, ServedFile { content, is_large: true, tag: Some(tag.clone()), size: None });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("model.safetensors has sha256") && error.contains(&tag), "{error}");
    assert_eq!(hub.content_requests(WEIGHTS).len(), 1);
    assert_nothing_left(&hub);
}

#[tokio::test]
async fn a_small_file_with_another_hash_is_refused_too() {
    let hub = TestHub::new().await;
    let tag = Some("e".repeat(40));
    hub.put("config.json", ServedFile { content: b"{}".to_vec(), tag, ..ServedFile::default() });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("config.json has git hash"), "{error}");
}

#[tokio::test]
async fn content_that_is_longer_than_declared_is_cut_off() {
    let hub = TestHub::new().await;
    hub.inject(WEIGHTS, Method::GET, [Fault::ExtraBytes(100 << 20)]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("longer than 3000000 bytes"), "{error}");
    assert_nothing_left(&hub);
}

#[tokio::test]
async fn content_that_is_shorter_than_declared_is_given_up_in_the_end() {
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
async fn a_transfer_that_always_breaks_is_given_up_in_the_end() {
    let hub = TestHub::new().await;
    hub.inject(WEIGHTS, Method::GET, vec![Fault::BreakAfter(10); 100]);
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("cannot be reached for model.safetensors"), "{error}");
    assert_eq!(hub.content_requests(WEIGHTS).len(), 6);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_in_the_end() {
    let mut hub = TestHub::new().await;
    hub.config.download_timeout = Duration::from_millis(1);
    hub.inject(WEIGHTS, Method::GET, vec![Fault::NoResponse; 100]);
    // Of small files it may be the same, on a busy machine.
    let error = hub.error_text(MODEL).await;
    assert!(
        error.contains("no answer within 0.001 s") || error.contains("nothing came for 0.001 s"),
        "{error}"
    );
}

#[tokio::test]
async fn a_model_that_the_disk_has_no_room_for_is_refused_before_it_comes() {
    let hub = TestHub::new().await;
    let size = Some(1 << 60);
    hub.put(WEIGHTS, ServedFile { content: vec![0; 10], is_large: true, tag: None, size });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("free, the model needs 1.00 EiB more"), "{error}");
    assert!(hub.content_requests(WEIGHTS).is_empty());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_named() {
    let mut hub = TestHub::new().await;
    let file = hub.folder.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    hub.config.cache = file.join("hub");
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("file/hub") && error.contains("ot a directory"), "{error}");
}

#[tokio::test]
async fn a_blob_that_a_crash_left_short_is_downloaded_again() {
    let hub = TestHub::new().await;
    let blob = hub.in_cache(&format!("blobs/{}", hub.file(WEIGHTS).tag()));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, "").unwrap();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
}
