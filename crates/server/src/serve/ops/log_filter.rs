//! `/log-filter`: reads the log filter, and changes it without a restart.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    routing::get,
};
use http::{HeaderMap, StatusCode};

use crate::telemetry::logging::filter::LogFilter;

/// The maximum length of a filter, in bytes.
const MAX_BYTES: usize = 4 << 10;

/// Headers of proxies. A proxy on the same machine may forward requests of any client.
const FORWARDING_HEADERS: [&str; 2] = ["forwarded", "x-forwarded-for"];

const NOT_LOCAL: &str = "log filter can be set only from this machine, by 127.0.0.1 or ::1 (for example with kubectl port-forward)";

/// Returns the routes.
///
/// Every client of the listener may read the filter, and only local ones may set it.
pub(crate) fn routes(filter: LogFilter) -> Router {
    Router::new()
        .route("/log-filter", get(read).put(set))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .with_state(filter)
}

async fn read(State(filter): State<LogFilter>) -> String {
    line(&filter.get())
}

async fn set(
    State(filter): State<LogFilter>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    requested: String,
) -> (StatusCode, String) {
    if !is_local(peer, &headers) {
        return (StatusCode::FORBIDDEN, line(NOT_LOCAL));
    }
    let before = filter.get();
    match filter.set(requested.trim()) {
        Ok(()) => {
            let after = filter.get();
            // A warning, so that a reader of the log sees why its level of detail changes.
            tracing::warn!(before, after, "log filter changed");
            (StatusCode::OK, line(&after))
        }
        Err(error) => (StatusCode::BAD_REQUEST, line(&error.to_string())),
    }
}

/// Returns whether a request was sent on this machine, and not forwarded by a proxy.
fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback()
        && !FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name))
}

fn line(text: &str) -> String {
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_direct_loopback_connections_are_local() {
        let local = |peer: &str, headers: &[&str]| {
            let headers = headers.iter().map(|name| (name.parse().unwrap(), "10.1.2.3".parse().unwrap()));
            is_local(peer.parse().unwrap(), &headers.collect())
        };
        for peer in ["127.0.0.1:5", "127.8.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert!(local(peer, &[]), "{peer}");
            assert!(!local(peer, &["x-forwarded-for"]) && !local(peer, &["forwarded"]), "{peer}");
        }
        for peer in ["10.0.0.1:5", "0.0.0.0:5", "[fe80::1]:5", "[::ffff:10.0.0.1]:5"] {
            assert!(!local(peer, &[]), "{peer}");
        }
    }
}
