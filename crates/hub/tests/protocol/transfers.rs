//! Downloads that end well.

use std::{fs, time::Duration};

use axum::http::Method;
use hub::Progress;

use crate::server::{COMMIT, MODEL, Mishap, Remote, SECRET, WEIGHTS, World, name};

#[tokio::test]
async fn a_checkpoint_comes_whole_and_nothing_else_comes() {
    let world = World::new().await;
    let snapshot = world.fetch(MODEL).await.unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.folder, world.in_cache(&format!("snapshots/{COMMIT}")));
    world.assert_whole(&snapshot);
    assert!(world.contents("README.md").is_empty());
    assert!(world.pauses.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_not_to_the_cdn() {
    let mut world = World::new().await;
    world.with_token();
    world.fetch(MODEL).await.unwrap();
    for seen in world.seen() {
        let expected = (seen.by == "hub").then(|| format!("Bearer {SECRET}"));
        assert_eq!(seen.token, expected, "{seen:?}");
    }
    assert!(world.seen().iter().any(|seen| seen.by == "cdn"));
}

#[tokio::test]
async fn a_transfer_that_breaks_goes_on_where_it_broke() {
    let world = World::new().await;
    world.befall(WEIGHTS, Method::GET, [Mishap::BreakAfter(1_000_000), Mishap::BreakAfter(500_000)]);
    let snapshot = world.fetch(MODEL).await.unwrap();
    world.assert_whole(&snapshot);
    let ranges: Vec<_> = world.contents(WEIGHTS).into_iter().map(|seen| seen.range).collect();
    let from = |byte: u32| Some(format!("bytes={byte}-"));
    assert_eq!(ranges, [None, from(1_000_000), from(1_500_000)]);
}

#[tokio::test]
async fn a_later_process_goes_on_where_an_earlier_one_was_cut_short() {
    let world = World::new().await;
    let weights = world.file(WEIGHTS);
    let partial = world.in_cache(&format!("blobs/{}.incomplete", weights.tag()));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &weights.content[..1234]).unwrap();
    let snapshot = world.fetch(MODEL).await.unwrap();
    world.assert_whole(&snapshot);
    assert_eq!(world.contents(WEIGHTS)[0].range.as_deref(), Some("bytes=1234-"));
    assert!(!partial.exists());
}

#[tokio::test]
async fn all_that_was_left_to_do_may_be_the_name() {
    let world = World::new().await;
    let weights = world.file(WEIGHTS);
    let partial = world.in_cache(&format!("blobs/{}.incomplete", weights.tag()));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &weights.content).unwrap();
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert!(world.contents(WEIGHTS).is_empty());
}

#[tokio::test]
async fn what_an_earlier_download_left_of_something_else_is_dropped() {
    let world = World::new().await;
    let weights = world.file(WEIGHTS);
    for left in [vec![7; 1000], vec![7; weights.content.len()], vec![7; weights.content.len() + 1]] {
        let _ = fs::remove_dir_all(world.in_cache(""));
        world.forget();
        let partial = world.in_cache(&format!("blobs/{}.incomplete", weights.tag()));
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, left).unwrap();
        world.assert_whole(&world.fetch(MODEL).await.unwrap());
        assert_eq!(world.contents(WEIGHTS).last().unwrap().range, None);
    }
}

#[tokio::test]
async fn a_server_without_ranges_starts_anew() {
    let world = World::new().await;
    world.befall(WEIGHTS, Method::GET, [Mishap::BreakAfter(1_000_000), Mishap::NoRanges]);
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert_eq!(world.contents(WEIGHTS).len(), 2);
}

#[tokio::test]
async fn a_redirect_inside_the_hub_speaks_of_itself_and_keeps_the_token() {
    let mut world = World::new().await;
    world.with_token();
    // The hub's own cache of small files. Length and tag are those of the redirect's own body.
    const MOVED: &[(&str, &str)] = &[
        (
            "location",
            "/api/resolve-cache/models/org/name/0123456789abcdef0123456789abcdef01234567/config.json",
        ),
        ("etag", "\"7-of-the-redirect\""),
    ];
    world.befall("config.json", Method::HEAD, [Mishap::Status(307, MOVED)]);
    world.befall("config.json", Method::GET, [Mishap::Status(307, MOVED)]);
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    let seen = world.seen().into_iter().filter(|seen| seen.path.contains("resolve-cache"));
    let tokens: Vec<_> = seen.map(|seen| seen.token.unwrap()).collect();
    assert_eq!(tokens, [format!("Bearer {SECRET}"), format!("Bearer {SECRET}")]);
}

#[tokio::test]
async fn two_at_once_download_once() {
    let world = World::new().await;
    let (one, other) = (world.hub(), world.hub());
    let (model, progress) = (name(MODEL), Progress::logged());
    let (one, other) = tokio::join!(one.fetch(&model, &progress), other.fetch(&model, &progress));
    assert_eq!(one.unwrap(), other.unwrap());
    for file in ["config.json", "tokenizer.json", WEIGHTS] {
        assert_eq!(world.contents(file).len(), 1, "{file}");
    }
}

#[tokio::test]
async fn a_busy_hub_is_waited_for_as_it_asks() {
    let world = World::new().await;
    world.befall("main", Method::GET, [Mishap::Status(429, &[("retry-after", "17")])]);
    world.befall("config.json", Method::HEAD, [Mishap::Status(429, &[("ratelimit", "\"api\";r=0;t=55")])]);
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert_eq!(*world.pauses.lock().unwrap(), [17, 55].map(Duration::from_secs));
}

#[tokio::test]
async fn a_hub_that_stumbles_is_asked_again() {
    let world = World::new().await;
    world.befall("main", Method::GET, [Mishap::Status(503, &[]), Mishap::Status(500, &[])]);
    world.befall(WEIGHTS, Method::GET, [Mishap::Status(502, &[])]);
    world.befall("config.json", Method::GET, [Mishap::Status(504, &[])]);
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert_eq!(world.pauses.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn weights_in_shards_come_as_their_index_names_them() {
    let world = World::new().await;
    world.remove(WEIGHTS);
    let index = br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    world.put("model.safetensors.index.json", Remote { content: index.to_vec(), ..Remote::default() });
    let told = world.told(MODEL).await;
    assert!(told.contains("has no model-00001-of-00002.safetensors"), "{told}");
    for shard in 1..=3 {
        let content = vec![shard; 1000];
        world.put(
            &format!("model-0000{shard}-of-00002.safetensors"),
            Remote { content, is_large: true, ..Remote::default() },
        );
    }
    let snapshot = world.fetch(MODEL).await.unwrap();
    let has = |shard| snapshot.folder.join(format!("model-0000{shard}-of-00002.safetensors")).exists();
    assert_eq!([1, 2, 3].map(has), [true, true, false]);
}

#[tokio::test]
async fn pickled_weights_come_only_where_there_are_no_safetensors() {
    let world = World::new().await;
    let pickle = "pytorch_model.bin";
    let content = vec![7; 1000];
    world.put(pickle, Remote { content: content.clone(), is_large: true, ..Remote::default() });
    let snapshot = world.fetch(MODEL).await.unwrap();
    assert!(snapshot.folder.join(WEIGHTS).exists() && !snapshot.folder.join(pickle).exists());

    fs::remove_dir_all(&world.config.cache).unwrap();
    world.remove(WEIGHTS);
    let snapshot = world.fetch(MODEL).await.unwrap();
    assert_eq!(fs::read(snapshot.folder.join(pickle)).unwrap(), content);
    world.forget();
    assert_eq!(world.fetch(&format!("org/name@{COMMIT}")).await.unwrap(), snapshot);
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn pickled_weights_in_shards_come_as_their_index_names_them() {
    let world = World::new().await;
    world.remove(WEIGHTS);
    let index = br#"{"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}"#;
    world.put("pytorch_model.bin.index.json", Remote { content: index.to_vec(), ..Remote::default() });
    let shard = |number| format!("pytorch_model-0000{number}-of-00002.bin");
    for number in 1..=2 {
        let content = vec![number; 1000];
        world.put(&shard(number), Remote { content, is_large: true, ..Remote::default() });
    }
    let snapshot = world.fetch(MODEL).await.unwrap();
    for number in 1..=2 {
        assert_eq!(fs::read(snapshot.folder.join(shard(number))).unwrap(), [number; 1000]);
    }
}

#[tokio::test]
async fn a_revision_may_be_the_branch_of_a_pull_request() {
    let world = World::new().await;
    world.assert_whole(&world.fetch("org/name@refs/pr/1").await.unwrap());
    assert_eq!(fs::read_to_string(world.in_cache("refs/refs/pr/1")).unwrap(), COMMIT);
}

#[tokio::test]
async fn a_download_that_is_dropped_leaves_what_the_next_one_goes_on_from() {
    let mut world = World::new().await;
    world.config.parallel = 1;
    world.befall(WEIGHTS, Method::GET, [Mishap::Silence]);
    let (hub, model, progress) = (world.hub(), name(MODEL), Progress::logged());
    let fetch = hub.fetch(&model, &progress);
    let others_are_there = async {
        while world.contents(WEIGHTS).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = fetch => panic!("{done:?}"),
        () = others_are_there => {}
    }
    // No branch leads to a snapshot that is not whole.
    assert!(!world.in_cache("refs/main").exists());
    world.forget();
    world.assert_whole(&world.fetch(MODEL).await.unwrap());
    assert!(world.contents("config.json").is_empty());
}
