//! Serves HTTP/1.1 and HTTP/2 connections with the same limits on every listener.
#![expect(clippy::disallowed_types, reason = "responses have the wall-clock time")]

use std::{
    convert::Infallible,
    error::Error,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::Body;
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::Connected as _;
use tower_service::Service;

use crate::{
    config::sections::grpc::GrpcSettings,
    listener::{
        Connection, Connections, Protocols,
        lingering_close::LingeringClose,
        unread_body::{BodyTracker, UnreadBody, WatchedBody},
        write_stall::{body::PacedBody, stream::StreamExecutor, transport::WriteTimeout},
    },
};

/// Bytes of one request body that a client may send before the server reads them.
///
/// The default of HTTP/2, 64 KiB, would make each image wait for several round trips.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same for all request bodies on one connection, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Bytes of one response that wait for the network, beyond what the client's window allows.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// How many streams of a connection the server may reset because the client broke the protocol.
///
/// Each such stream costs work that the client's own limit of streams does not count
/// (CVE-2025-8671). A client library causes none.
const MAX_PROTOCOL_ERROR_RESETS: usize = 256;

/// The minimum size of hyper's read buffer. Its size is the limit on HTTP/1.1 headers.
const MIN_BUFFER_BYTES: usize = 8 << 10;

/// Serves the connections of one listener.
#[derive(Clone, Debug)]
pub struct ConnectionServer {
    builder: Builder<StreamExecutor>,
    age_limit: AgeLimit,
    write_stall: Duration,
    stop: CancellationToken,
}

impl ConnectionServer {
    /// Creates a server with the limits of `settings`, which accepts requests until `stop`.
    #[must_use]
    pub fn new(settings: &GrpcSettings, protocols: Protocols, stop: CancellationToken) -> Self {
        let write_stall = duration_or_unlimited(settings.write_stall_s);
        let builder = builder(settings, protocols, write_stall);
        Self { builder, age_limit: AgeLimit::new(settings), write_stall, stop }
    }

    /// Serves `connections` until the server stops. Then it waits for the open connections to end.
    ///
    /// `service` finds the [`tonic::transport::server::TcpConnectInfo`] of the client in the
    /// extensions of each request.
    pub async fn serve<S, B>(self, mut connections: Connections, service: S)
    where
        S: Service<Request<WatchedBody<Incoming>>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let open = TaskTracker::new();
        while let Some(Some(connection)) = self.stop.run_until_cancelled(connections.next()).await {
            // The acceptor retries after errors and never returns one.
            let Ok(connection) = connection else { continue };
            open.spawn(self.clone().serve_connection(connection, service.clone()));
        }
        drop(connections);
        open.close();
        open.wait().await;
    }

    /// Serves one connection to its end.
    ///
    /// It accepts no more requests when it reaches its maximum age or when the server stops. The
    /// server completes the requests in flight. At the maximum age, they have the grace time.
    async fn serve_connection<S, B>(self, connection: Connection, service: S)
    where
        S: Service<Request<WatchedBody<Incoming>>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let client = connection.connect_info();
        let service = TowerToHyperService::new(service);
        let unread = UnreadBody::default();
        let transport = LingeringClose::new(WriteTimeout::new(connection, self.write_stall), unread.clone());
        let bodies = BodyTracker::new(unread);
        let service = service_fn(move |mut request: Request<Incoming>| {
            client.mark_request();
            request.extensions_mut().insert(client.tcp().clone());
            let bodies = (request.version() != Version::HTTP_2).then(|| bodies.clone());
            // A client with this header sends its body only if the server reads it.
            let waits = request.headers().contains_key(header::EXPECT);
            let response = service.call(request.map(|body| match &bodies {
                Some(bodies) => bodies.watch(body),
                None => WatchedBody::unwatched(body),
            }));
            async move {
                let mut response = response.await?.map(PacedBody::new);
                if let Some(bodies) = bodies
                    && !bodies.has_ended(!waits).await
                {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                if let Some(date) = date(SystemTime::now()) {
                    response.headers_mut().entry(header::DATE).or_insert(date);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let transport = TokioIo::new(transport);
        let mut served = pin!(self.builder.serve_connection(transport, service));
        let grace = tokio::select! {
            result = &mut served => return log_end(result),
            () = self.stop.cancelled() => Duration::MAX,
            () = sleep(self.age_limit.max_age) => self.age_limit.grace,
        };
        served.as_mut().graceful_shutdown();
        match timeout(grace, served).await {
            Ok(result) => log_end(result),
            Err(_) => tracing::debug!("connection closed: age limit reached"),
        }
    }
}

/// Returns a connection builder with the limits of `settings`.
fn builder(settings: &GrpcSettings, protocols: Protocols, write_stall: Duration) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor { limit: write_stall });
    if protocols == Protocols::Http2 {
        builder = builder.http2_only();
    }
    let header_bytes = usize::try_from(settings.max_header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        // Also the idle limit of a connection, because HTTP/1.1 has no pings that detect dead
        // peers.
        .header_read_timeout(Duration::from_secs(settings.keepalive_interval_s))
        .max_buf_size(header_bytes.max(MIN_BUFFER_BYTES));
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(settings.max_concurrent_streams)
        // Clients that share a connection may reset all their calls before a busy server accepts
        // them, which is no attack. The limit therefore equals the number of concurrent calls.
        // Beyond it, the connection closes.
        .max_pending_accept_reset_streams(usize::try_from(settings.max_concurrent_streams).ok())
        .max_local_error_reset_streams(MAX_PROTOCOL_ERROR_RESETS)
        .keep_alive_interval(Duration::from_secs(settings.keepalive_interval_s))
        .keep_alive_timeout(Duration::from_secs(settings.keepalive_timeout_s))
        .max_header_list_size(settings.max_header_bytes)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder
}

/// The maximum age of a connection, and the time for its last requests after that.
#[derive(Clone, Copy, Debug)]
struct AgeLimit {
    max_age: Duration,
    grace: Duration,
}

impl AgeLimit {
    fn new(settings: &GrpcSettings) -> Self {
        let max_age = duration_or_unlimited(settings.max_connection_age_s);
        Self { max_age, grace: Duration::from_secs(settings.max_connection_age_grace_s) }
    }
}

/// Returns the value of the header `Date`, or `None` for times that the format has not.
///
/// hyper panics for these.
fn date(now: SystemTime) -> Option<HeaderValue> {
    let year_9999 = Duration::from_secs(253_370_764_800);
    now.duration_since(UNIX_EPOCH).ok().filter(|since_1970| *since_1970 < year_9999)?;
    HeaderValue::from_str(&httpdate::fmt_http_date(now)).ok()
}

/// Returns the duration of a setting that 0 disables.
fn duration_or_unlimited(seconds: u64) -> Duration {
    if seconds == 0 { Duration::MAX } else { Duration::from_secs(seconds) }
}

fn log_end<E: std::fmt::Display>(result: Result<(), E>) {
    // Most of these clients have disconnected without closing.
    if let Err(error) = result {
        tracing::debug!(%error, "connection closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_outside_the_format_is_omitted() {
        let year = Duration::from_secs(365 * 86400);
        assert_eq!(date(UNIX_EPOCH).unwrap(), "Thu, 01 Jan 1970 00:00:00 GMT");
        for other in [UNIX_EPOCH - Duration::from_nanos(1), UNIX_EPOCH - 60 * year, UNIX_EPOCH + 9000 * year]
        {
            assert_eq!(date(other), None);
        }
    }
}
