//! Attacks on the fetcher, with real servers on loopback.
//!
//! `allow_networks` allows loopback addresses where a test needs them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod server;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use images::fetch::{
    Account, BodyMemory, FetchCall, FetchConfig, FetchCounters, FetchError, FetchPhase, FetchedImage,
    MemoryExhausted, RequestBudget, RequestPermit, Resolver,
};
use server::{Server, ok};

/// A resolver that returns the addresses of a list one after the other, and the last one forever.
struct ScriptedResolver(Mutex<VecDeque<&'static str>>);

impl ScriptedResolver {
    fn new(addresses: &[&'static str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(addresses.iter().copied().collect())))
    }
}

impl Resolver for ScriptedResolver {
    fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
        let addresses = vec![answer.unwrap().parse().unwrap()];
        async move { Ok(addresses) }.boxed()
    }
}

/// Allows one loopback address and the ports of `servers`.
fn config(servers: &[&Server]) -> FetchConfig {
    FetchConfig {
        allow_ports: servers.iter().map(|server| server.port()).collect(),
        allow_networks: vec!["127.0.0.1/32".parse().unwrap()],
        max_retries: 0,
        max_bytes: 1000,
        ..FetchConfig::default()
    }
}

/// A caller that may send any number of requests, and whose bodies share some memory.
#[derive(Debug)]
struct Caller {
    id: u64,
    memory: Arc<Mutex<usize>>,
    /// Whether a request ever gets its turn.
    has_turn: bool,
}

#[derive(Debug)]
struct Memory(Arc<Mutex<usize>>);

impl Account for Caller {
    fn id(&self) -> u64 {
        self.id
    }

    fn request(&self, _: &str) -> BoxFuture<'static, RequestPermit> {
        let permit: RequestPermit = Box::new(());
        if self.has_turn { ready(permit).boxed() } else { futures::future::pending().boxed() }
    }

    fn body(&self, _: usize) -> BoxFuture<'static, Box<dyn BodyMemory>> {
        let memory: Box<dyn BodyMemory> = Box::new(Memory(Arc::clone(&self.memory)));
        ready(memory).boxed()
    }
}

impl BodyMemory for Memory {
    fn grow(&mut self, more: usize) -> Result<(), MemoryExhausted> {
        let mut left = self.0.lock().unwrap();
        *left = left.checked_sub(more).ok_or(MemoryExhausted)?;
        Ok(())
    }

    fn complete(&mut self, _: usize) {}
}

/// A fetcher for calls of one caller, with one image each.
#[derive(Clone)]
struct Fetcher(images::fetch::Fetcher);

impl Fetcher {
    fn with_resolver(config: FetchConfig, resolver: Arc<dyn Resolver>) -> Self {
        Self(images::fetch::Fetcher::with_resolver(config, resolver).unwrap())
    }

    async fn fetch(&self, url: &str) -> Result<bytes::Bytes, FetchError> {
        self.fetch_for(url, &call(1, 1)).await
    }

    async fn fetch_for(&self, url: &str, call: &FetchCall) -> Result<bytes::Bytes, FetchError> {
        self.0.fetch(url, call).await.map(|FetchedImage { bytes, .. }| bytes)
    }

    fn counters(&self) -> FetchCounters {
        self.0.counters()
    }
}

/// Returns a call with this number of images.
fn call(caller: u64, images: usize) -> FetchCall {
    with_memory(caller, images, 1 << 20)
}

fn with_memory(id: u64, images: usize, bytes: usize) -> FetchCall {
    let account = Arc::new(Caller { id, memory: Arc::new(Mutex::new(bytes)), has_turn: true });
    let requests = Arc::new(RequestBudget::new(images));
    FetchCall { account, requests, headers: Default::default() }
}

fn fetcher(config: FetchConfig) -> Fetcher {
    Fetcher::with_resolver(config, ScriptedResolver::new(&["127.0.0.1"]))
}

async fn reason(fetcher: &Fetcher, url: &str) -> &'static str {
    fetcher.fetch(url).await.map_or_else(|error| error.reason(), |_| "OK")
}

#[tokio::test]
async fn image_is_fetched_by_name_and_by_allowed_address() {
    let server = Server::start(|_| ok(b"image", "")).await;
    let fetcher = fetcher(config(&[&server]));
    assert_eq!(fetcher.fetch(&server.url("/a.png")).await.unwrap(), "image");
    let by_name = format!("http://images.example:{}/b.png#part", server.port());
    assert_eq!(fetcher.fetch(&by_name).await.unwrap(), "image");
    let requests = server.requests();
    assert!(requests[1].starts_with("GET /b.png HTTP/1.1"), "{requests:?}");
    for header in ["cookie", "authorization", "referer", "accept-encoding: gzip", "proxy"] {
        assert!(!requests[1].to_lowercase().contains(header), "{header} in {requests:?}");
    }
}

#[tokio::test]
async fn loopback_is_rejected_unless_allowed() {
    let server = Server::start(|_| ok(b"secret", "")).await;
    let closed = FetchConfig { allow_networks: Vec::new(), ..config(&[&server]) };
    let fetcher = fetcher(closed);
    assert_eq!(reason(&fetcher, &server.url("/")).await, "URL_ADDRESS_REFUSED");
    let by_name = format!("http://images.example:{}/", server.port());
    assert_eq!(reason(&fetcher, &by_name).await, "URL_ADDRESS_REFUSED");
    let error = fetcher.fetch(&by_name).await.unwrap_err();
    assert!(!error.to_string().contains("127"), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn loopback_is_rejected_in_every_notation() {
    let server = Server::start(|_| ok(b"secret", "")).await;
    let closed = FetchConfig { allow_networks: Vec::new(), ..config(&[&server]) };
    let fetcher = fetcher(closed);
    for host in [
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "127。0。0。1",
    ] {
        let url = format!("http://{host}:{}/", server.port());
        assert_eq!(reason(&fetcher, &url).await, "URL_ADDRESS_REFUSED", "{url}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn rebinding_name_is_checked_at_each_redirect() {
    let server = Server::start(|_| {
        "HTTP/1.1 302 Found\r\nlocation: /again\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".into()
    })
    .await;
    let rebinding = ScriptedResolver::new(&["127.0.0.1", "169.254.169.254"]);
    let fetcher = Fetcher::with_resolver(config(&[&server]), rebinding);
    let url = format!("http://rebind.example:{}/", server.port());
    assert_eq!(reason(&fetcher, &url).await, "URL_ADDRESS_REFUSED");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn connection_uses_the_checked_address() {
    let server = Server::start(|_| ok(b"image", "")).await;
    // A second resolution for the connection would return the second address.
    let rebinding = ScriptedResolver::new(&["127.0.0.1", "127.0.0.2"]);
    let fetcher = Fetcher::with_resolver(config(&[&server]), rebinding);
    let url = format!("http://rebind.example:{}/", server.port());
    assert_eq!(reason(&fetcher, &url).await, "OK");
}

#[tokio::test]
async fn caller_headers_are_sent_to_first_origin_only() {
    let other_server = Server::start(|_| ok(b"image", "")).await;
    let other_url = other_server.url("/image");
    let first_server = Server::start(move |path| {
        let to = if path == "/first" { "/second" } else { other_url.as_str() };
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let fetcher = fetcher(config(&[&first_server, &other_server]));
    let headers = [("traceparent".parse().unwrap(), "00-1-2-01".parse().unwrap())].into_iter().collect();
    let call = FetchCall { headers, ..call(1, 1) };
    assert_eq!(fetcher.fetch_for(&first_server.url("/first"), &call).await.unwrap(), "image");
    let received_header = |server: &Server| -> Vec<bool> {
        server.requests().iter().map(|head| head.contains("traceparent: 00-1-2-01")).collect()
    };
    assert_eq!(received_header(&first_server), [true, true]);
    assert_eq!(received_header(&other_server), [false]);
}

#[tokio::test]
async fn redirect_target_has_the_same_checks() {
    let inside = Server::start(|_| ok(b"secret", "")).await;
    let port = inside.port();
    let redirect = move |path: &str| {
        let target = match path {
            "/address" => format!("http://127.0.0.2:{port}/"),
            "/port" => "http://127.0.0.1:1/".to_owned(),
            "/scheme" => "file:///etc/passwd".to_owned(),
            "/data" => "data:,secret".to_owned(),
            "/credentials" => format!("http://a:b@127.0.0.1:{port}/"),
            "/garbage" => "http://[".to_owned(),
            "/loop" => "/loop".to_owned(),
            _ => "/image".to_owned(),
        };
        format!("HTTP/1.1 307 Redirect\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    };
    let server =
        Server::start(move |path| if path == "/image" { ok(b"image", "") } else { redirect(path) }).await;
    let fetcher = fetcher(config(&[&server, &inside]));
    for (path, expected) in [
        ("/address", "URL_ADDRESS_REFUSED"),
        ("/port", "URL_PORT_REFUSED"),
        ("/scheme", "URL_SCHEME_REFUSED"),
        ("/data", "URL_SCHEME_REFUSED"),
        ("/credentials", "URL_CREDENTIALS_REFUSED"),
        ("/garbage", "URL_INVALID_REDIRECT"),
        ("/loop", "URL_TOO_MANY_REDIRECTS"),
        ("/good", "OK"),
    ] {
        assert_eq!(reason(&fetcher, &server.url(path)).await, expected, "{path}");
    }
    assert!(inside.requests().is_empty());
    let loops = server.requests().iter().filter(|request| request.starts_with("GET /loop")).count();
    assert_eq!(loops, 1 + FetchConfig::default().max_redirects);
}

#[tokio::test]
async fn oversized_body_is_rejected_for_any_declared_length() {
    let server = Server::start(|path| match path {
        "/declared" => b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n".to_vec(),
        "/endless" => [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[0; 100_000]].concat(),
        "/chunked" => [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7D0\r\n"[..],
            &[0; 2000],
            b"\r\n0\r\n\r\n",
        ]
        .concat(),
        // Declares 10 bytes and sends more. The client reads 10 bytes.
        "/lying" => [&b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"[..], &[7; 5000]].concat(),
        _ => ok(&[0; 1000], ""),
    })
    .await;
    let fetcher = fetcher(config(&[&server]));
    for path in ["/declared", "/endless", "/chunked"] {
        let error = fetcher.fetch(&server.url(path)).await.unwrap_err();
        assert_eq!(error, FetchError::TooManyBytes { limit: 1000 }, "{path}");
    }
    assert_eq!(fetcher.fetch(&server.url("/lying")).await.unwrap(), [7; 10].as_slice());
    assert_eq!(fetcher.fetch(&server.url("/exact")).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn body_that_ends_early_is_an_error() {
    let server = Server::start(|_| {
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\nhalf".to_vec()
    })
    .await;
    let fetcher = fetcher(config(&[&server]));
    assert_eq!(reason(&fetcher, &server.url("/")).await, "URL_CONNECTION_FAILED");
}

#[tokio::test]
async fn compressed_body_is_rejected_unread() {
    for (header, expected) in [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("aws-chunked, br", "br"),
        ("identity\r\ncontent-encoding: zstd", "zstd"),
    ] {
        let header = format!("content-encoding: {header}\r\n");
        let server = Server::start(move |_| ok(b"\x1F\x8B\x08", &header)).await;
        let error = fetcher(config(&[&server])).fetch(&server.url("/bomb")).await.unwrap_err();
        assert_eq!(error, FetchError::Encoded { encoding: expected.to_owned() });
    }
}

#[tokio::test]
async fn coding_that_changes_no_bytes_is_accepted() {
    for coding in
        ["", " ", "identity", "Identity", "identity, identity", "none", "binary", "UTF-8", "aws-chunked"]
    {
        let header = format!("content-encoding: {coding}\r\n");
        let server = Server::start(move |_| ok(b"image", &header)).await;
        let fetched = fetcher(config(&[&server])).fetch(&server.url("/")).await;
        assert_eq!(fetched.unwrap(), "image", "{coding}");
    }
}

#[tokio::test]
async fn odd_response_headers_are_accepted() {
    let many = |count: usize| (0..count).map(|n| format!("x-h{n}: v\r\n")).collect::<String>();
    for headers in [
        "x-server : 1\r\n".to_owned(),
        "x bad: 1\r\n".to_owned(),
        "x-long: a\r\n b\r\n".to_owned(),
        ": x\r\n".to_owned(),
        "x-name: \u{e9}\r\n".to_owned(),
        many(250),
        "set-cookie: c=v\r\n".repeat(70),
    ] {
        let server = Server::start(move |_| ok(b"image", &headers)).await;
        assert_eq!(reason(&fetcher(config(&[&server])), &server.url("/")).await, "OK");
    }
    let server = Server::start(move |_| ok(b"image", &many(300))).await;
    assert_eq!(reason(&fetcher(config(&[&server])), &server.url("/")).await, "URL_CONNECTION_FAILED");
}

#[tokio::test]
async fn redirect_with_bytes_beyond_ascii_is_followed() {
    let server = Server::start(|path| match path {
        "/utf8" => "HTTP/1.1 302 Found\r\nlocation: /caf\u{e9}\r\ncontent-length: 0\r\n\r\n".into(),
        "/latin1" => b"HTTP/1.1 302 Found\r\nlocation: /caf\xe9\r\ncontent-length: 0\r\n\r\n".to_vec(),
        path => ok(path.as_bytes(), ""),
    })
    .await;
    let fetcher = fetcher(config(&[&server]));
    assert_eq!(fetcher.fetch(&server.url("/utf8")).await.unwrap(), "/caf%C3%A9");
    assert_eq!(fetcher.fetch(&server.url("/latin1")).await.unwrap(), "/caf%E9");
}

#[tokio::test]
async fn status_other_than_200_and_203_is_an_error() {
    let server = Server::start(|path| {
        format!("HTTP/1.1 {} Status\r\ncontent-length: 5\r\n\r\nimage", &path[1..]).into_bytes()
    })
    .await;
    let fetcher = fetcher(config(&[&server]));
    for status in [200, 203] {
        assert_eq!(fetcher.fetch(&server.url(&format!("/{status}"))).await.unwrap(), "image");
    }
    for status in [201, 202, 206, 226, 404] {
        let fetched = fetcher.fetch(&server.url(&format!("/{status}"))).await;
        assert_eq!(fetched, Err(FetchError::Status { status }));
    }
}

// With paused time, the clock advances to the next timer when no task can run. A silent server
// therefore reaches its timeout at once.

#[tokio::test]
async fn silent_server_reaches_the_first_byte_timeout() {
    let server = Server::silent_after(b"").await;
    let fetcher = fetcher(config(&[&server]));
    let url = server.url("/");
    let fetching = tokio::spawn(async move { fetcher.fetch(&url).await });
    server.has_responded().await;
    tokio::time::pause();
    let limit = FetchConfig::default().first_byte_timeout;
    assert_eq!(fetching.await.unwrap(), Err(FetchError::Timeout { phase: FetchPhase::FirstByte, limit }));
}

#[tokio::test]
async fn endless_body_reaches_the_total_timeout() {
    let server = Server::silent_after(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nslow").await;
    let limit = Duration::from_secs(20);
    let fetcher = fetcher(config(&[&server]));
    let url = server.url("/");
    let fetching = tokio::spawn(async move { fetcher.fetch(&url).await });
    server.has_responded().await;
    tokio::time::pause();
    assert_eq!(fetching.await.unwrap(), Err(FetchError::Timeout { phase: FetchPhase::Total, limit }));
}

#[tokio::test]
async fn only_transient_errors_are_retried() {
    let server = Server::start(|path| match path {
        "/busy" => b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec(),
    })
    .await;
    let retrying = FetchConfig { max_retries: 2, retry_pause: Duration::ZERO, ..config(&[&server]) };
    let fetcher = fetcher(retrying);
    assert_eq!(fetcher.fetch(&server.url("/busy")).await, Err(FetchError::Status { status: 503 }));
    assert_eq!(fetcher.counters(), FetchCounters { attempts: 3, retries: 2, ..FetchCounters::default() });
    assert_eq!(fetcher.fetch(&server.url("/no")).await, Err(FetchError::Status { status: 403 }));
    assert_eq!(fetcher.counters().attempts, 4);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn retries_of_a_call_are_counted_by_host() {
    let server = Server::start(|_| b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let config = FetchConfig { retry_pause: Duration::ZERO, ..config(&[&server]) };
    let max_retries = FetchConfig::default().max_retries;
    let fetcher = fetcher(FetchConfig { max_retries, ..config });
    let call = call(1, 20);
    for image in 0..20 {
        let fetched = fetcher.fetch_for(&server.url(&format!("/{image}")), &call).await;
        assert_eq!(fetched, Err(FetchError::Status { status: 503 }));
    }
    assert_eq!(server.requests().len(), 20 + 1);
}

#[tokio::test]
async fn redirects_of_a_call_to_one_host_are_bounded() {
    let server = Server::start(|path| {
        format!("HTTP/1.1 302 Found\r\nlocation: {path}0\r\ncontent-length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let fetcher = fetcher(config(&[&server]));
    let call = call(1, 64);
    let mut last = Ok(bytes::Bytes::new());
    for image in 0..64 {
        last = fetcher.fetch_for(&server.url(&format!("/{image}/")), &call).await;
    }
    assert_eq!(last, Err(FetchError::TooManyRequests { limit: 136 }));
    assert_eq!(server.requests().len(), 136);
}

#[tokio::test]
async fn body_without_memory_is_a_busy_error() {
    let server = Server::start(|_| ok(&[7; 900], "")).await;
    let fetcher = fetcher(config(&[&server]));
    let call = with_memory(1, 2, 1000);
    let first = fetcher.0.fetch(&server.url("/1"), &call).await.unwrap();
    assert_eq!(fetcher.fetch_for(&server.url("/2"), &call).await, Err(FetchError::Busy));
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn fetch_without_a_turn_is_a_busy_error() {
    let account = Arc::new(Caller { id: 1, memory: Arc::default(), has_turn: false });
    let call = FetchCall { account, ..call(1, 1) };
    let fetched = fetcher(FetchConfig::default()).fetch_for("http://example.com/", &call).await;
    assert_eq!(fetched, Err(FetchError::Busy));
}

#[tokio::test]
async fn callers_do_not_join_fetches_of_each_other() {
    let server = Server::start(|_| ok(b"image", "")).await;
    let fetcher = fetcher(config(&[&server]));
    let (url, calls) = (server.url("/same"), [call(1, 1), call(2, 1), call(2, 1)]);
    let all = calls.iter().map(|call| fetcher.fetch_for(&url, call));
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn refused_connection_is_retried() {
    let server = Server::start(|_| ok(b"", "")).await;
    let url = server.url("/");
    let config = FetchConfig { max_retries: 1, retry_pause: Duration::ZERO, ..config(&[&server]) };
    server.stop().await;
    let fetcher = fetcher(config);
    assert_eq!(reason(&fetcher, &url).await, "URL_CONNECTION_FAILED");
    assert_eq!(fetcher.counters().attempts, 2);
}

#[tokio::test]
async fn concurrent_fetches_of_one_url_share_a_request() {
    let server = Server::start(|_| ok(b"image", "")).await;
    let fetcher = fetcher(config(&[&server]));
    let url = server.url("/same");
    let all = futures::future::join_all((0..20).map(|_| fetcher.fetch(&url))).await;
    assert!(all.iter().all(|image| image.as_deref() == Ok(b"image")));
    assert_eq!(server.requests().len(), 1);
    assert_eq!(fetcher.counters().shared, 19);
    // The fetch is complete, and the response has no cache lifetime.
    assert_eq!(fetcher.fetch(&url).await.unwrap(), "image");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn shared_fetch_survives_a_dropped_caller() {
    let server = Server::start(|_| ok(b"image", "")).await;
    let fetcher = fetcher(config(&[&server]));
    let url = server.url("/same");
    let mut first = Box::pin(fetcher.fetch(&url));
    assert!(futures::poll!(&mut first).is_pending());
    let second = fetcher.fetch(&url);
    let mut second = Box::pin(second);
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(second.await.unwrap(), "image");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn fresh_image_is_served_from_the_cache() {
    let server = Server::start(|path| match path {
        "/moved" => b"HTTP/1.1 301 Moved\r\nlocation: /fresh\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/private" => ok(b"image", "cache-control: private, max-age=60\r\n"),
        _ => ok(b"image", "cache-control: max-age=60\r\n"),
    })
    .await;
    let fetcher = fetcher(config(&[&server]));
    for path in ["/fresh", "/private", "/moved"] {
        for _ in 0..2 {
            assert_eq!(fetcher.fetch(&server.url(path)).await.unwrap(), "image");
        }
    }
    let request_count =
        |path: &str| server.requests().iter().filter(|request| request.contains(path)).count();
    // A redirect without a cache lifetime is requested again, and so is its target.
    assert_eq!((request_count("/private"), request_count("/moved"), request_count("/fresh")), (2, 2, 1 + 2));
    assert_eq!(fetcher.counters().cached, 1);
}

#[tokio::test]
async fn data_url_is_decoded_without_a_server() {
    let fetcher = fetcher(FetchConfig { max_bytes: 4, ..FetchConfig::default() });
    assert_eq!(fetcher.fetch("data:image/png;base64,iVBORw==").await.unwrap(), b"\x89PNG".as_slice());
    assert_eq!(reason(&fetcher, "data:,12345").await, "URL_TOO_MANY_BYTES");
}
