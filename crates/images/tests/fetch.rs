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
use futures::future::BoxFuture;
use images::fetch::{FetchConfig, FetchCounters, FetchError, FetchPhase, Fetcher, Resolver};
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

fn fetcher(config: FetchConfig) -> Fetcher {
    Fetcher::with_resolver(config, ScriptedResolver::new(&["127.0.0.1"])).unwrap()
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
    let fetcher = Fetcher::with_resolver(config(&[&server]), rebinding).unwrap();
    let url = format!("http://rebind.example:{}/", server.port());
    assert_eq!(reason(&fetcher, &url).await, "URL_ADDRESS_REFUSED");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn connection_uses_the_checked_address() {
    let server = Server::start(|_| ok(b"image", "")).await;
    // A second resolution for the connection would return the second address.
    let rebinding = ScriptedResolver::new(&["127.0.0.1", "127.0.0.2"]);
    let fetcher = Fetcher::with_resolver(config(&[&server]), rebinding).unwrap();
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
    assert_eq!(fetcher.fetch_with(&first_server.url("/first"), headers).await.unwrap(), "image");
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
    let server = Server::start(|_| ok(b"\x1F\x8B\x08", "content-encoding: gzip\r\n")).await;
    let fetcher = fetcher(config(&[&server]));
    let error = fetcher.fetch(&server.url("/bomb")).await.unwrap_err();
    assert_eq!(error, FetchError::Encoded { encoding: "gzip".to_owned() });
}

#[tokio::test]
async fn status_other_than_200_is_an_error() {
    let server = Server::start(|_| b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let fetcher = fetcher(config(&[&server]));
    assert_eq!(fetcher.fetch(&server.url("/")).await, Err(FetchError::Status { status: 404 }));
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
