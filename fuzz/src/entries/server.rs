//! Both listeners of a server on connections in memory. Its model returns the text of each item.
//!
//! Time is paused, so that a limit on time ends a wait at once.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use blip::{Architecture, Conventions, Generation};
use blip_server::{
    auth::Authenticator,
    config::{RequestLimits, Settings},
    error::RequestError,
    fair_share::{Caller, FairShare},
    grpc::{
        handler::RequestHandler,
        routes::{GrpcServer, routes},
    },
    http::{HttpServer, router::router},
    lifecycle::{admin::Administration, health::Health},
    listener::{Connection, ConnectionServer, Protocols, WatchedBody},
    models::{info::ModelInfo, registry::Catalogue},
    pipeline::{
        dispatcher::InferenceService,
        item_result::{ItemResult, ItemResults},
        reply::{Answer, Caption, Embedding, MatchScores, Reply},
        request::InferenceRequest,
    },
    request::{
        item::{ItemTask, ValidatedItem},
        memory_budget::MemoryBudget,
        validate::validate,
    },
    telemetry::tracing::Tracing,
};
use futures::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, transport::server::TcpConnectInfo};
use tower::{Service, ServiceExt as _, util::BoxCloneService};

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Grpc,
    Http,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Send(Vec<u8>),
    /// Waits until the server has done what it can, and for this time.
    Wait(Duration),
}

impl Step {
    /// Returns the time for which the client waits.
    fn wait(&self) -> Duration {
        match self {
            Self::Send(_) => Duration::ZERO,
            // Also without a duration, other tasks run until they wait.
            Self::Wait(duration) => (*duration).max(Duration::from_millis(1)),
        }
    }
}

/// What a client gets.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// The number of successful responses.
    pub(super) successes: usize,
    /// The first bytes from the server.
    received: Vec<u8>,
}

impl Exchange {
    /// Returns the status of the first response, over HTTP/1.1.
    pub(super) fn status(&self) -> String {
        let status = self.received.strip_prefix(b"HTTP/1.1 ").and_then(|status| status.get(..3));
        String::from_utf8_lossy(status.unwrap_or_default()).into_owned()
    }
}

type CountedService = BoxCloneService<Request<WatchedBody<Incoming>>, Response<Body>, Infallible>;

/// How many bytes from the server are stored.
const MAX_RECEIVED_BYTES: usize = 4 << 10;

/// The size of the pipe in each direction, in bytes.
const PIPE_BYTES: usize = 64 << 10;

/// This time after the last step of the client, no connection is open.
const END: Duration = Duration::from_secs(3600);

/// The time of the client between its last step and the end of its input.
const LAST_WAIT: Duration = Duration::from_secs(1);

thread_local! {
    static SERVICES: [(Port, CountedService); 2] = services(&Settings::default());
    /// The number of successful responses.
    static SUCCESSES: Cell<usize> = const { Cell::new(0) };
    /// The internal errors.
    static INTERNAL_ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs a connection from its first step to its end. The server ends it, and returns no internal
/// error.
pub(super) fn exchange(port: Port, steps: Vec<Step>) -> Exchange {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    SUCCESSES.set(0);
    let waits: Duration = steps.iter().map(Step::wait).sum();
    let received = runtime.block_on(async {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let (mut reader, mut writer) = tokio::io::split(client);
        let sent = async {
            for step in steps {
                match &step {
                    // The server may have closed the connection.
                    Step::Send(bytes) => drop(writer.write_all(bytes).await),
                    Step::Wait(_) => sleep(step.wait()).await,
                }
            }
            sleep(LAST_WAIT).await;
            let _ = writer.shutdown().await;
        };
        let received = async {
            let (mut received, mut buffer) = (Vec::new(), vec![0; PIPE_BYTES]);
            while let Ok(bytes @ 1..) = reader.read(&mut buffer).await {
                let free = MAX_RECEIVED_BYTES.saturating_sub(received.len());
                received.extend(buffer.iter().take(bytes.min(free)));
            }
            received
        };
        let all = async { tokio::join!(serve(port, server), sent, received) };
        let all = timeout(waits + END, all).await;
        assert!(all.is_ok(), "the connection is open {END:?} after the last step of the client");
        all.map(|(_, _, received)| received).unwrap_or_default()
    });
    assert_eq!(INTERNAL_ERRORS.take(), [""; 0]);
    Exchange { successes: SUCCESSES.get(), received }
}

/// Serves one connection to its end.
async fn serve(port: Port, transport: tokio::io::DuplexStream) {
    let settings = Settings::default().grpc;
    let protocols = if port == Port::Grpc { Protocols::Http2 } else { Protocols::Http };
    let peer = TcpConnectInfo { local_addr: None, remote_addr: Some(([192, 0, 2, 1], 1024).into()) };
    let place = FairShare::new(1).reserve(Caller::SERVER, 1).unwrap();
    let connection = Connection::new(transport, peer, (&settings).into(), place);
    let service = SERVICES.with(|services| {
        services.iter().find(|(other, _)| *other == port).map(|(_, service)| service.clone()).unwrap()
    });
    let server = ConnectionServer::new(&settings, protocols, CancellationToken::new());
    server.serve(stream::iter([Ok(connection)]).boxed(), service).await;
}

/// Creates the services of both listeners.
fn services(settings: &Settings) -> [(Port, CountedService); 2] {
    let handler = RequestHandler {
        inference: Arc::new(EchoService { limits: settings.limits.clone() }),
        models: Arc::new(OneModel),
        default_deadline: settings.limits.default_deadline(),
        stream_window: settings.grpc.stream_window,
        stop: CancellationToken::new(),
    };
    let authenticator = Authenticator::new(&settings.auth).unwrap();
    let administration = Administration { admin: None, authenticator: authenticator.clone() };
    let (budget, tracing) = (MemoryBudget::new(settings.into()), Tracing::default());
    let health = Health::default();
    health.set_accepting(true);
    let max_new_tokens = settings.limits.max_new_tokens;
    let http = HttpServer { handler, authenticator, administration, budget, tracing, health, max_new_tokens };
    let HttpServer { handler, authenticator, administration, budget, tracing, health, .. } = http.clone();
    let grpc = GrpcServer { handler, authenticator, administration, budget, tracing, health };
    let grpc = counted(routes::<WatchedBody<Incoming>>(grpc, settings).unwrap());
    let http = counted(router(http, &settings.http));
    [(Port::Grpc, grpc), (Port::Http, http)]
}

/// Counts the responses of a service.
fn counted<S, B>(service: S) -> CountedService
where
    S: Service<Request<WatchedBody<Incoming>>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    service.map_response(count).boxed_clone()
}

/// Counts a response that is successful or an internal error.
fn count<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let status = response.headers().get("grpc-status").map(|status| status.as_bytes());
    let is_internal =
        response.status() == StatusCode::INTERNAL_SERVER_ERROR || matches!(status, Some(b"2" | b"13"));
    let is_success = response.status() == StatusCode::OK && status.is_none_or(|status| status == b"0");
    SUCCESSES.set(SUCCESSES.get() + usize::from(is_success));
    if is_internal {
        let error = format!("{} {:?}", response.status(), response.headers());
        INTERNAL_ERRORS.with_borrow_mut(|errors| errors.push(error));
    }
    response.map(Body::new)
}

/// Validates requests, and replies with the text of each item.
struct EchoService {
    limits: RequestLimits,
}

impl InferenceService for EchoService {
    fn infer(&self, request: InferenceRequest) -> Result<ItemResults, RequestError> {
        let task = request.task.resolve(Generation::GREEDY, &self.limits)?;
        let inputs = validate(request.inputs, request.format, &task, &self.limits)?;
        let results = (0..).zip(inputs).flat_map(|(image_index, input)| {
            let image = input.image.map(drop);
            (0..).zip(input.items).map(move |(text_index, item)| {
                let reply = image.clone().and(item).map(echo);
                Ok(ItemResult { image_index, text_index, ready: None, reply })
            })
        });
        Ok(stream::iter(results).boxed())
    }
}

fn echo(item: ValidatedItem) -> Reply {
    let ValidatedItem { text, task } = item;
    match task {
        ItemTask::Answer(_) | ItemTask::Rank { .. } => Reply::Answer(Answer { text, ..Answer::default() }),
        ItemTask::Caption(_) => Reply::Caption(Caption { text, ..Caption::default() }),
        ItemTask::Match => Reply::Match(MatchScores { logits: vec![0.0; 2], ..MatchScores::default() }),
        ItemTask::EmbedText | ItemTask::EmbedImage => {
            Reply::Embedding(Embedding { values: vec![1.0], ..Embedding::default() })
        }
    }
}

struct OneModel;

impl Catalogue for OneModel {
    fn list(&self) -> Result<Vec<Arc<ModelInfo>>, RequestError> {
        self.get("").map(|model| vec![model])
    }

    fn get(&self, _: &str) -> Result<Arc<ModelInfo>, RequestError> {
        Ok(Arc::new(ModelInfo {
            name: "echo".into(),
            source: String::new(),
            revision: None,
            architecture: Architecture::QuestionAnswering,
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            image_size: 384,
            patch_grid: 24,
            max_text_tokens: 512,
            max_new_tokens: 20,
            num_beams: 1,
            stop_token: 102,
            embedding_size: 0,
            parameters: 1,
            conventions: Conventions::default(),
            candidate_lists: Vec::new(),
        }))
    }
}
