//! Successful downloads, with and without interruptions.

use std::{fs, time::Duration};

use axum::http::Method;
use hub::Progress;

use crate::server::{COMMIT, Fault, MODEL, SECRET, ServedFile, TestHub, WEIGHTS, name};

#[tokio::test]
async fn only_checkpoint_files_are_downloaded() {
    let hub = TestHub::new().await;
    let snapshot = hub.fetch(MODEL).await.unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.folder, hub.in_cache(&format!("snapshots/{COMMIT}")));
    hub.assert_complete(&snapshot);
    assert!(hub.content_requests("README.md").is_empty());
    assert!(hub.sleeps.lock().unwrap().is_empty());
}

#[tokio::test]
async fn token_is_sent_to_the_hub_and_not_to_the_cdn() {
    let mut hub = TestHub::new().await;
    hub.with_token();
    hub.fetch(MODEL).await.unwrap();
    for request in hub.requests() {
        let expected = (request.by == "hub").then(|| format!("Bearer {SECRET}"));
        assert_eq!(request.token, expected, "{request:?}");
    }
    assert!(hub.requests().iter().any(|request| request.by == "cdn"));
}

#[tokio::test]
async fn interrupted_transfer_resumes() {
    let hub = TestHub::new().await;
    hub.inject(WEIGHTS, Method::GET, [Fault::BreakAfter(1_000_000), Fault::BreakAfter(500_000)]);
    let snapshot = hub.fetch(MODEL).await.unwrap();
    hub.assert_complete(&snapshot);
    let ranges: Vec<_> = hub.content_requests(WEIGHTS).into_iter().map(|request| request.range).collect();
    let from = |byte: u32| Some(format!("bytes={byte}-"));
    assert_eq!(ranges, [None, from(1_000_000), from(1_500_000)]);
}

#[tokio::test]
async fn partial_file_of_another_process_is_resumed() {
    let hub = TestHub::new().await;
    let weights = hub.file(WEIGHTS);
    let partial = hub.in_cache(&format!("blobs/{}.incomplete", weights.tag()));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &weights.content[..1234]).unwrap();
    let snapshot = hub.fetch(MODEL).await.unwrap();
    hub.assert_complete(&snapshot);
    assert_eq!(hub.content_requests(WEIGHTS)[0].range.as_deref(), Some("bytes=1234-"));
    assert!(!partial.exists());
}

#[tokio::test]
async fn complete_partial_file_is_only_renamed() {
    let hub = TestHub::new().await;
    let weights = hub.file(WEIGHTS);
    let partial = hub.in_cache(&format!("blobs/{}.incomplete", weights.tag()));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &weights.content).unwrap();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert!(hub.content_requests(WEIGHTS).is_empty());
}

#[tokio::test]
async fn partial_file_with_other_content_is_discarded() {
    let hub = TestHub::new().await;
    let weights = hub.file(WEIGHTS);
    for left in [vec![7; 1000], vec![7; weights.content.len()], vec![7; weights.content.len() + 1]] {
        let _ = fs::remove_dir_all(hub.in_cache(""));
        hub.clear_requests();
        let partial = hub.in_cache(&format!("blobs/{}.incomplete", weights.tag()));
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, left).unwrap();
        hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
        assert_eq!(hub.content_requests(WEIGHTS).last().unwrap().range, None);
    }
}

#[tokio::test]
async fn transfer_restarts_without_range_support() {
    let hub = TestHub::new().await;
    hub.inject(WEIGHTS, Method::GET, [Fault::BreakAfter(1_000_000), Fault::IgnoreRange]);
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert_eq!(hub.content_requests(WEIGHTS).len(), 2);
}

#[tokio::test]
async fn redirect_within_the_hub_sends_the_token() {
    let mut hub = TestHub::new().await;
    hub.with_token();
    // The hub redirects small files to a cache. Length and tag describe the body of the redirect.
    const MOVED: &[(&str, &str)] = &[
        (
            "location",
            "/api/resolve-cache/models/org/name/0123456789abcdef0123456789abcdef01234567/config.json",
        ),
        ("etag", "\"7-of-the-redirect\""),
    ];
    hub.inject("config.json", Method::HEAD, [Fault::Status(307, MOVED)]);
    hub.inject("config.json", Method::GET, [Fault::Status(307, MOVED)]);
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    let requests = hub.requests().into_iter().filter(|request| request.path.contains("resolve-cache"));
    let tokens: Vec<_> = requests.map(|request| request.token.unwrap()).collect();
    assert_eq!(tokens, [format!("Bearer {SECRET}"), format!("Bearer {SECRET}")]);
}

#[tokio::test]
async fn concurrent_fetches_download_once() {
    let hub = TestHub::new().await;
    let (one, other) = (hub.client(), hub.client());
    let (model, progress) = (name(MODEL), Progress::logged());
    let (one, other) = tokio::join!(one.fetch(&model, &progress), other.fetch(&model, &progress));
    assert_eq!(one.unwrap(), other.unwrap());
    for file in ["config.json", "tokenizer.json", WEIGHTS] {
        assert_eq!(hub.content_requests(file).len(), 1, "{file}");
    }
}

#[tokio::test]
async fn requested_delay_is_observed() {
    let hub = TestHub::new().await;
    hub.inject("main", Method::GET, [Fault::Status(429, &[("retry-after", "17")])]);
    hub.inject("config.json", Method::HEAD, [Fault::Status(429, &[("ratelimit", "\"api\";r=0;t=55")])]);
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert_eq!(*hub.sleeps.lock().unwrap(), [17, 55].map(Duration::from_secs));
}

#[tokio::test]
async fn server_errors_are_retried() {
    let hub = TestHub::new().await;
    hub.inject("main", Method::GET, [Fault::Status(503, &[]), Fault::Status(500, &[])]);
    hub.inject(WEIGHTS, Method::GET, [Fault::Status(502, &[])]);
    hub.inject("config.json", Method::GET, [Fault::Status(504, &[])]);
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert_eq!(hub.sleeps.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn shards_in_the_index_are_downloaded() {
    let hub = TestHub::new().await;
    hub.remove(WEIGHTS);
    let index = br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    hub.put("model.safetensors.index.json", ServedFile { content: index.to_vec(), ..ServedFile::default() });
    let error = hub.error_text(MODEL).await;
    assert!(error.contains("has no model-00001-of-00002.safetensors"), "{error}");
    for shard in 1..=3 {
        let content = vec![shard; 1000];
        hub.put(
            &format!("model-0000{shard}-of-00002.safetensors"),
            ServedFile { content, is_large: true, ..ServedFile::default() },
        );
    }
    let snapshot = hub.fetch(MODEL).await.unwrap();
    let has = |shard| snapshot.folder.join(format!("model-0000{shard}-of-00002.safetensors")).exists();
    assert_eq!([1, 2, 3].map(has), [true, true, false]);
}

#[tokio::test]
async fn pickled_weights_need_missing_safetensors() {
    let hub = TestHub::new().await;
    let pickle = "pytorch_model.bin";
    let content = vec![7; 1000];
    hub.put(pickle, ServedFile { content: content.clone(), is_large: true, ..ServedFile::default() });
    let snapshot = hub.fetch(MODEL).await.unwrap();
    assert!(snapshot.folder.join(WEIGHTS).exists() && !snapshot.folder.join(pickle).exists());

    fs::remove_dir_all(&hub.config.cache).unwrap();
    hub.remove(WEIGHTS);
    let snapshot = hub.fetch(MODEL).await.unwrap();
    assert_eq!(fs::read(snapshot.folder.join(pickle)).unwrap(), content);
    hub.clear_requests();
    assert_eq!(hub.fetch(&format!("org/name@{COMMIT}")).await.unwrap(), snapshot);
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn pickled_shards_in_the_index_are_downloaded() {
    let hub = TestHub::new().await;
    hub.remove(WEIGHTS);
    let index = br#"{"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}"#;
    hub.put("pytorch_model.bin.index.json", ServedFile { content: index.to_vec(), ..ServedFile::default() });
    let shard = |number| format!("pytorch_model-0000{number}-of-00002.bin");
    for number in 1..=2 {
        let content = vec![number; 1000];
        hub.put(&shard(number), ServedFile { content, is_large: true, ..ServedFile::default() });
    }
    let snapshot = hub.fetch(MODEL).await.unwrap();
    for number in 1..=2 {
        assert_eq!(fs::read(snapshot.folder.join(shard(number))).unwrap(), [number; 1000]);
    }
}

#[tokio::test]
async fn revision_may_be_a_pull_request() {
    let hub = TestHub::new().await;
    hub.assert_complete(&hub.fetch("org/name@refs/pr/1").await.unwrap());
    assert_eq!(fs::read_to_string(hub.in_cache("refs/refs/pr/1")).unwrap(), COMMIT);
}

#[tokio::test]
async fn dropped_download_is_resumed_by_the_next() {
    let mut hub = TestHub::new().await;
    hub.config.parallel_downloads = 1;
    hub.inject(WEIGHTS, Method::GET, [Fault::NoResponse]);
    let (client, model, progress) = (hub.client(), name(MODEL), Progress::logged());
    let fetch = client.fetch(&model, &progress);
    let weights_are_requested = async {
        while hub.content_requests(WEIGHTS).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = fetch => panic!("{done:?}"),
        () = weights_are_requested => {}
    }
    // The commit of a branch is recorded only for a complete snapshot.
    assert!(!hub.in_cache("refs/main").exists());
    hub.clear_requests();
    hub.assert_complete(&hub.fetch(MODEL).await.unwrap());
    assert!(hub.content_requests("config.json").is_empty());
}
