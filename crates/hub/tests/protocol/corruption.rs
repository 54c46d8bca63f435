//! Contents that are not what they should be, and disks that take none.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use axum::http::Method;

use crate::server::{MODEL, Mishap, Remote, WEIGHTS, World};

fn assert_nothing_left(world: &World) {
    assert!(!world.in_cache("refs/main").exists());
    let tag = world.file(WEIGHTS).tag();
    assert!(!world.in_cache(&format!("blobs/{tag}")).exists());
    assert!(!world.in_cache(&format!("blobs/{tag}.incomplete")).exists());
}

#[tokio::test]
async fn content_with_another_hash_is_refused_and_not_kept() {
    let world = World::new().await;
    let content = world.file(WEIGHTS).content;
    let tag = "e".repeat(64);
    world.put(WEIGHTS, Remote { content, is_large: true, tag: Some(tag.clone()), size: None });
    let told = world.told(MODEL).await;
    assert!(told.contains("model.safetensors has sha256") && told.contains(&tag), "{told}");
    assert_eq!(world.contents(WEIGHTS).len(), 1);
    assert_nothing_left(&world);
}

#[tokio::test]
async fn a_small_file_with_another_hash_is_refused_too() {
    let world = World::new().await;
    let tag = Some("e".repeat(40));
    world.put("config.json", Remote { content: b"{}".to_vec(), tag, ..Remote::default() });
    let told = world.told(MODEL).await;
    assert!(told.contains("config.json has git hash"), "{told}");
}

#[tokio::test]
async fn content_that_is_longer_than_declared_is_cut_off() {
    let world = World::new().await;
    world.befall(WEIGHTS, Method::GET, [Mishap::Longer(100 << 20)]);
    let told = world.told(MODEL).await;
    assert!(told.contains("longer than 3000000 bytes"), "{told}");
    assert_nothing_left(&world);
}

#[tokio::test]
async fn content_that_is_shorter_than_declared_is_given_up_in_the_end() {
    let world = World::new().await;
    let weights = world.file(WEIGHTS);
    let tag = Some(weights.tag());
    let size = Some(weights.content.len() as u64 + 1);
    world.put(WEIGHTS, Remote { content: weights.content, is_large: true, tag, size });
    let told = world.told(MODEL).await;
    assert!(told.contains("model.safetensors"), "{told}");
    assert!(world.contents(WEIGHTS).len() <= 8, "{}", world.contents(WEIGHTS).len());
    assert!(!world.in_cache("refs/main").exists());
}

#[tokio::test]
async fn a_transfer_that_always_breaks_is_given_up_in_the_end() {
    let world = World::new().await;
    world.befall(WEIGHTS, Method::GET, vec![Mishap::BreakAfter(10); 100]);
    let told = world.told(MODEL).await;
    assert!(told.contains("cannot be reached for model.safetensors"), "{told}");
    assert_eq!(world.contents(WEIGHTS).len(), 6);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_in_the_end() {
    let mut world = World::new().await;
    world.config.download_timeout = Duration::from_millis(1);
    world.befall(WEIGHTS, Method::GET, vec![Mishap::Silence; 100]);
    // Of small files it may be the same, on a busy machine.
    let told = world.told(MODEL).await;
    assert!(told.contains("no answer within 0.001 s") || told.contains("nothing came for 0.001 s"), "{told}");
}

#[tokio::test]
async fn a_model_that_the_disk_has_no_room_for_is_refused_before_it_comes() {
    let world = World::new().await;
    let size = Some(1 << 60);
    world.put(WEIGHTS, Remote { content: vec![0; 10], is_large: true, tag: None, size });
    let told = world.told(MODEL).await;
    assert!(told.contains("free, the model needs 1.00 EiB more"), "{told}");
    assert!(world.contents(WEIGHTS).is_empty());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_named() {
    let mut world = World::new().await;
    let file = world.folder.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    world.config.cache = file.join("hub");
    let told = world.told(MODEL).await;
    assert!(told.contains("file/hub") && told.contains("ot a directory"), "{told}");
}

#[tokio::test]
async fn a_blob_that_a_crash_left_short_is_downloaded_again() {
    let world = World::new().await;
    let blob = world.in_cache(&format!("blobs/{}", world.file(WEIGHTS).tag()));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, "").unwrap();
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
}
