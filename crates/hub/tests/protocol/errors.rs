//! What the hub does not give, and what it says that is no sense.

use axum::http::Method;

use crate::server::{COMMIT, MODEL, Mishap, Remote, WEIGHTS, World};

#[tokio::test]
async fn a_model_that_is_not_there_is_named_with_what_could_help() {
    let mut world = World::new().await;
    let told = world.told("org/other").await;
    assert!(told.contains("127.0.0.1") && told.contains("has no model org/other"), "{told}");
    assert!(told.contains("set HF_TOKEN"), "{told}");
    world.with_token();
    let told = world.told("org/other").await;
    assert!(told.contains("not for the owner of the access token"), "{told}");
    assert!(world.pauses.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_revision_that_is_not_there_is_named() {
    let world = World::new().await;
    let told = world.told("org/name@v9").await;
    assert!(told.starts_with("org/name has no revision v9 on http://127.0.0.1"), "{told}");
}

#[tokio::test]
async fn a_gated_model_is_told_from_one_that_is_not_there() {
    let world = World::new().await;
    world.befall(WEIGHTS, Method::HEAD, [Mishap::Status(403, &[("x-error-code", "GatedRepo")])]);
    let told = world.told(MODEL).await;
    assert!(told.contains("org/name is gated") && told.contains("agree to its terms"), "{told}");
}

#[tokio::test]
async fn a_model_without_weights_that_can_be_read_is_told_what_it_has() {
    let world = World::new().await;
    world.remove(WEIGHTS);
    world.put("tf_model.h5", Remote { content: vec![0; 10], is_large: true, ..Remote::default() });
    let told = world.told(MODEL).await;
    assert_eq!(told, "org/name@main has no model.safetensors nor pytorch_model.bin; it has tf_model.h5");
    assert!(world.seen().len() == 1, "{:?}", world.seen());
}

#[tokio::test]
async fn a_hub_that_stays_down_is_given_up_in_the_end() {
    let world = World::new().await;
    world.befall("main", Method::GET, vec![Mishap::Status(503, &[]); 100]);
    let told = world.told(MODEL).await;
    assert!(told.contains("answered 503 for org/name@main"), "{told}");
    assert_eq!(world.seen().len(), 6);
}

#[tokio::test]
async fn a_hub_that_wants_to_be_left_alone_for_an_hour_is_left_alone() {
    let world = World::new().await;
    world.befall("main", Method::GET, [Mishap::Status(429, &[("retry-after", "3600")])]);
    let told = world.told(MODEL).await;
    assert!(told.contains("asks to wait 3600 s"), "{told}");
    assert_eq!(world.seen().len(), 1);
}

#[tokio::test]
async fn the_words_of_the_hub_are_passed_on() {
    let world = World::new().await;
    let said =
        [("x-error-code", "DisabledRepo"), ("x-error-message", "Access to this resource is disabled.")];
    world.befall("main", Method::GET, [Mishap::Status(403, Box::leak(Box::new(said)))]);
    let told = world.told(MODEL).await;
    assert!(told.ends_with("answered 403 for org/name@main: Access to this resource is disabled."), "{told}");
}

#[tokio::test]
async fn redirects_without_end_are_followed_to_a_limit() {
    let world = World::new().await;
    let again = [("location", "/org/name/resolve/0123456789abcdef0123456789abcdef01234567/config.json")];
    let again: &'static [_] = Box::leak(Box::new(again));
    world.befall("config.json", Method::GET, vec![Mishap::Status(307, again); 100]);
    let told = world.told(MODEL).await;
    assert!(told.contains("redirects more than 8 times"), "{told}");
}

#[tokio::test]
async fn a_redirect_that_leads_to_a_file_is_not_followed() {
    let world = World::new().await;
    world.befall("config.json", Method::GET, [Mishap::Status(302, &[("location", "file:///etc/passwd")])]);
    let told = world.told(MODEL).await;
    assert!(told.contains("redirects from"), "{told}");
}

#[tokio::test]
async fn a_file_whose_tag_is_no_hash_is_refused() {
    let world = World::new().await;
    let tag = Some("../../../../x".to_owned());
    world.put("config.json", Remote { content: b"{}".to_vec(), tag, ..Remote::default() });
    let told = world.told(MODEL).await;
    assert!(told.contains("is no hash to check it by"), "{told}");
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_named() {
    let mut world = World::new().await;
    world.with_token();
    world.config.endpoint = "http://127.0.0.1:1".parse().unwrap();
    let told = world.told(&format!("org/name@{COMMIT}")).await;
    assert!(told.starts_with("127.0.0.1:1 cannot be reached for org/name@"), "{told}");
    assert!(told.contains("refused"), "{told}");
}
