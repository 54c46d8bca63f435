//! What the cache spares.

use std::fs;

use axum::http::Method;

use crate::server::{COMMIT, MODEL, Mishap, WEIGHTS, World};

#[tokio::test]
async fn the_layout_is_that_of_huggingface_hub() {
    let world = World::new().await;
    world.fetch(MODEL).await.unwrap();
    assert_eq!(fs::read_to_string(world.in_cache("refs/main")).unwrap(), COMMIT);
    for file in ["config.json", WEIGHTS] {
        let link = fs::read_link(world.in_cache(&format!("snapshots/{COMMIT}/{file}"))).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("../../blobs/{}", world.file(file).tag()));
    }
    assert!(world.in_cache(&format!(".no_exist/{COMMIT}/generation_config.json")).is_file());
    let lock = format!(".locks/models--org--name/{}.lock", world.file(WEIGHTS).tag());
    assert!(world.config.cache.join(lock).is_file());
}

#[tokio::test]
async fn a_model_that_is_there_costs_one_question() {
    let world = World::new().await;
    world.fetch(MODEL).await.unwrap();
    world.forget();
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert_eq!(world.seen().len(), 1);
}

#[tokio::test]
async fn a_commit_that_is_there_costs_none() {
    let world = World::new().await;
    world.fetch(MODEL).await.unwrap();
    world.forget();
    world.assert_whole(&world.fetch(&format!("org/name@{COMMIT}")).await.unwrap());
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn offline_touches_no_network() {
    let mut world = World::new().await;
    world.config.offline = true;
    let told = world.told(MODEL).await;
    assert!(
        told.starts_with("HF_HUB_OFFLINE is set") && told.ends_with("no snapshot of org/name@main"),
        "{told}"
    );
    world.config.offline = false;
    world.fetch(MODEL).await.unwrap();
    world.config.offline = true;
    world.forget();
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert!(world.seen().is_empty());
    fs::remove_file(world.in_cache(&format!("snapshots/{COMMIT}/{WEIGHTS}"))).unwrap();
    let told = world.told(MODEL).await;
    assert!(told.ends_with("no model.safetensors nor pytorch_model.bin of org/name@main"), "{told}");
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn while_the_hub_is_down_the_cache_does() {
    let world = World::new().await;
    world.fetch(MODEL).await.unwrap();
    world.befall("main", Method::GET, [Mishap::Status(503, &[])]);
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    world.stop();
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert!(world.pauses.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_went_missing_is_linked_again_and_not_downloaded() {
    let world = World::new().await;
    world.fetch(MODEL).await.unwrap();
    fs::remove_file(world.in_cache(&format!("snapshots/{COMMIT}/{WEIGHTS}"))).unwrap();
    world.forget();
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert!(world.contents(WEIGHTS).is_empty());
}
