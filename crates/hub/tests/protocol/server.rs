//! A test hub and its CDN, each on a separate port.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hub::{Config, Hub, Progress, RepositoryName, Sleeper, Snapshot, Token};
use serde_json::json;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const MODEL: &str = "org/name";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const SECRET: &str = "hf_secret_of_mine";

/// A file with the metadata that the server declares.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServedFile {
    pub(crate) content: Vec<u8>,
    /// The CDN serves large files.
    pub(crate) is_large: bool,
    /// Replaces the correct tag.
    pub(crate) tag: Option<String>,
    /// Replaces the correct size.
    pub(crate) size: Option<u64>,
}

/// The faulty response to one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A status with headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// The connection breaks after this number of bytes.
    BreakAfter(usize),
    /// The complete content, without regard to the requested range.
    IgnoreRange,
    /// This number of bytes after the content, without a declared length.
    ExtraBytes(usize),
    /// No response.
    NoResponse,
}

/// A request that the server received.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) by: &'static str,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

#[derive(Default)]
struct Content {
    files: BTreeMap<String, ServedFile>,
    /// Faults by the last part of the path and the method, in order.
    faults: HashMap<(String, Method), Vec<Fault>>,
    requests: Vec<RecordedRequest>,
}

/// The hub, the CDN, a cache folder and the configuration of the client.
pub(crate) struct TestHub {
    content: Arc<Mutex<Content>>,
    pub(crate) config: Config,
    pub(crate) folder: TempDir,
    pub(crate) sleeps: Arc<Mutex<Vec<Duration>>>,
    servers: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct ServerState {
    content: Arc<Mutex<Content>>,
    cdn: Option<u16>,
}

impl TestHub {
    /// Starts a hub with a complete checkpoint, whose weights are a large file.
    pub(crate) async fn new() -> Self {
        let content = Arc::new(Mutex::new(Content::default()));
        let (cdn, of_cdn) = listen(ServerState { content: Arc::clone(&content), cdn: None }).await;
        let (port, of_hub) = listen(ServerState { content: Arc::clone(&content), cdn: Some(cdn) }).await;
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("http://127.0.0.1:{port}");
        let home = folder.path().display().to_string();
        let config = Config::from_environment(|name| match name {
            "HF_ENDPOINT" => Some(endpoint.clone()),
            "HF_HOME" => Some(home.clone()),
            _ => None,
        });
        let hub = Self {
            content,
            config: config.unwrap(),
            folder,
            sleeps: Arc::default(),
            servers: vec![of_cdn, of_hub],
        };
        for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "README.md"] {
            hub.put(
                name,
                ServedFile { content: format!("{{\"of\": {name:?}}}").into(), ..ServedFile::default() },
            );
        }
        let weights =
            (0..3_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        hub.put(WEIGHTS, ServedFile { content: weights, is_large: true, ..ServedFile::default() });
        hub
    }

    pub(crate) fn put(&self, name: &str, file: ServedFile) {
        self.content.lock().unwrap().files.insert(name.to_owned(), file);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.content.lock().unwrap().files.remove(name).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> ServedFile {
        self.content.lock().unwrap().files[name].clone()
    }

    /// Injects `faults` into the next requests of `method` for paths that end in `name`.
    pub(crate) fn inject(&self, name: &str, method: Method, faults: impl IntoIterator<Item = Fault>) {
        let key = (name.to_owned(), method);
        self.content.lock().unwrap().faults.entry(key).or_default().extend(faults);
    }

    pub(crate) fn with_token(&mut self) {
        self.config.token = Token::new(SECRET);
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.content.lock().unwrap().requests.clone()
    }

    pub(crate) fn clear_requests(&self) {
        self.content.lock().unwrap().requests.clear();
    }

    /// Returns the requests for the content of `name` at the server that serves it.
    pub(crate) fn content_requests(&self, name: &str) -> Vec<RecordedRequest> {
        let by = if self.file(name).is_large { "cdn" } else { "hub" };
        let is_content = |request: &RecordedRequest| {
            request.by == by && request.method == Method::GET && request.path.ends_with(&format!("/{name}"))
        };
        self.requests().into_iter().filter(is_content).collect()
    }

    /// Creates a client that records its delays and does not wait.
    pub(crate) fn client(&self) -> Hub {
        let sleeps = Arc::clone(&self.sleeps);
        let pause = Sleeper::new(move |wait| {
            sleeps.lock().unwrap().push(wait);
            Box::pin(tokio::task::yield_now())
        });
        Hub::with_sleeper(self.config.clone(), pause).unwrap()
    }

    pub(crate) async fn fetch(&self, model: &str) -> Result<Snapshot, hub::HubError> {
        self.client().fetch(&name(model), &Progress::logged()).await
    }

    /// Returns the error of a fetch, after a check that it contains no secret.
    pub(crate) async fn error_text(&self, model: &str) -> String {
        let error = self.fetch(model).await.unwrap_err();
        let texts = format!("{error} {error:?}");
        assert!(!texts.contains(SECRET) && !texts.contains("signature"), "{texts}");
        error.to_string()
    }

    pub(crate) fn in_cache(&self, path: &str) -> PathBuf {
        self.config.cache.join("models--org--name").join(path)
    }

    /// Asserts that the files of the snapshot equal those of the server.
    pub(crate) fn assert_complete(&self, snapshot: &Snapshot) {
        for name in ["config.json", "preprocessor_config.json", "tokenizer.json", WEIGHTS] {
            let found = std::fs::read(snapshot.folder.join(name)).unwrap();
            assert!(found == self.file(name).content, "{name}");
        }
    }

    pub(crate) fn stop(&self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn name(model: &str) -> RepositoryName {
    model.parse().unwrap()
}

impl ServedFile {
    pub(crate) fn tag(&self) -> String {
        let hash = || match self.is_large {
            true => format!("{:x}", Sha256::digest(&self.content)),
            false => {
                let hash = Sha1::new_with_prefix(format!("blob {}\0", self.content.len()));
                format!("{:x}", hash.chain_update(&self.content).finalize())
            }
        };
        self.tag.clone().unwrap_or_else(hash)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.unwrap_or(self.content.len() as u64)
    }
}

async fn listen(state: ServerState) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = match state.cdn {
        Some(_) => Router::new()
            .route("/api/models/{org}/{name}/revision/{revision}", get(info))
            .route("/{org}/{name}/resolve/{commit}/{file}", get(resolve))
            .route("/api/resolve-cache/models/{org}/{name}/{commit}/{file}", get(resolve)),
        None => Router::new().route("/blobs/{file}", get(blob)),
    };
    let served = axum::serve(listener, router.with_state(state));
    (port, tokio::spawn(async move { served.await.unwrap() }))
}

impl ServerState {
    fn record(&self, request: &Request) {
        let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        self.content.lock().unwrap().requests.push(RecordedRequest {
            by: if self.cdn.is_some() { "hub" } else { "cdn" },
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            range: header(header::RANGE),
            token: header(header::AUTHORIZATION),
        });
    }

    fn take_fault(&self, name: &str, method: &Method) -> Option<Fault> {
        let mut content = self.content.lock().unwrap();
        let faults = content.faults.get_mut(&(name.to_owned(), method.clone()))?;
        (!faults.is_empty()).then(|| faults.remove(0))
    }
}

fn status(status: u16, headers: &[(&'static str, &'static str)]) -> Response {
    let mut response = StatusCode::from_u16(status).unwrap().into_response();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

async fn info(
    State(state): State<ServerState>,
    Path((org, name, revision)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    state.record(&request);
    match state.take_fault(&revision, request.method()) {
        Some(Fault::Status(code, headers)) => return status(code, headers),
        Some(Fault::NoResponse) => return std::future::pending().await,
        _ => {}
    }
    if format!("{org}/{name}") != MODEL {
        return status(401, &[("x-error-code", "RepoNotFound")]);
    }
    if !["main", "refs/pr/1", COMMIT].contains(&revision.as_str()) {
        return status(404, &[("x-error-code", "RevisionNotFound")]);
    }
    let siblings: Vec<_> =
        state.content.lock().unwrap().files.keys().map(|file| json!({ "rfilename": file })).collect();
    Json(json!({ "id": MODEL, "sha": COMMIT, "siblings": siblings })).into_response()
}

async fn resolve(
    State(state): State<ServerState>,
    Path((_, _, commit, name)): Path<(String, String, String, String)>,
    request: Request,
) -> Response {
    state.record(&request);
    assert_eq!(commit, COMMIT);
    let file = state.content.lock().unwrap().files.get(&name).cloned();
    let Some(file) = file else { return status(404, &[("x-error-code", "EntryNotFound")]) };
    let is_head = *request.method() == Method::HEAD;
    // Faults of large files apply at the CDN.
    let fault = (is_head || !file.is_large).then(|| state.take_fault(&name, request.method())).flatten();
    let headers = [("x-repo-commit", COMMIT.to_owned()), ("x-linked-size", file.size().to_string())];
    let tag = format!("\"{}\"", file.tag());
    match (fault, state.cdn) {
        (Some(Fault::Status(code, headers)), _) => status(code, headers),
        (None, Some(port)) if file.is_large => {
            let location = format!("http://127.0.0.1:{port}/blobs/{name}?signature=secret");
            (StatusCode::FOUND, headers, [("x-linked-etag", tag), ("location", location)]).into_response()
        }
        (fault, _) => (headers, [("etag", tag)], content(&file, request.headers(), fault)).into_response(),
    }
}

async fn blob(State(state): State<ServerState>, Path(name): Path<String>, request: Request) -> Response {
    state.record(&request);
    let file = state.content.lock().unwrap().files[&name].clone();
    match state.take_fault(&name, request.method()) {
        Some(Fault::Status(code, headers)) => status(code, headers),
        Some(Fault::NoResponse) => std::future::pending().await,
        fault => content(&file, request.headers(), fault),
    }
}

fn content(file: &ServedFile, headers: &HeaderMap, fault: Option<Fault>) -> Response {
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap());
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from = from.filter(|_| !matches!(fault, Some(Fault::IgnoreRange))).unwrap_or(0);
    let total = file.content.len();
    let Some(bytes) = file.content.get(from..).filter(|_| from == 0 || from < total) else {
        return status(416, &[]);
    };
    let bytes = bytes.to_vec();
    let pieces = match fault {
        Some(Fault::BreakAfter(count)) => {
            vec![Ok(bytes[..count].to_vec()), Err(std::io::Error::other("broken off"))]
        }
        Some(Fault::ExtraBytes(count)) => vec![Ok(bytes), Ok(vec![0; count])],
        _ => vec![Ok(bytes)],
    };
    let body = Body::from_stream(futures::stream::iter(pieces));
    let mut response = body.into_response();
    if from > 0 {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{total}", total - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, range.parse().unwrap());
    }
    response
}
