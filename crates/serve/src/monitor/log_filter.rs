//! `/log-filter`: what is logged, and how to change it without a restart.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    routing::get,
};
use http::{HeaderMap, StatusCode};

use crate::telemetry::LogFilter;

/// Longest filter that is read, in bytes.
const MAX_BYTES: usize = 4 << 10;

/// Headers of proxies, which may stand on this machine and let anyone through.
const FORWARDERS: [&str; 2] = ["forwarded", "x-forwarded-for"];

/// Anyone who reaches the listener may read the filter; who sets it has to be on this machine.
pub(super) fn routes(filter: LogFilter) -> Router {
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
    wanted: String,
) -> (StatusCode, String) {
    if !is_here(peer, &headers) {
        let from = "the log filter is set from this machine only, by 127.0.0.1 or ::1 (kubectl port-forward will do)";
        return (StatusCode::FORBIDDEN, line(from));
    }
    let before = filter.get();
    match filter.set(wanted.trim()) {
        Ok(()) => {
            let after = filter.get();
            // Whoever reads the log should know why it says more or less from here on.
            tracing::warn!(before, after, "log filter changed");
            (StatusCode::OK, line(&after))
        }
        Err(bad) => (StatusCode::BAD_REQUEST, line(&bad.to_string())),
    }
}

/// Whether a request was sent on this machine, and not by a proxy there.
fn is_here(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback() && !FORWARDERS.iter().any(|name| headers.contains_key(*name))
}

fn line(text: &str) -> String {
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_here_and_what_a_proxy_on_it_passes_on_is_not() {
        let here = |peer: &str, headers: &[&str]| {
            let headers = headers.iter().map(|name| (name.parse().unwrap(), "10.1.2.3".parse().unwrap()));
            is_here(peer.parse().unwrap(), &headers.collect())
        };
        for peer in ["127.0.0.1:5", "127.8.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert!(here(peer, &[]), "{peer}");
            assert!(!here(peer, &["x-forwarded-for"]) && !here(peer, &["forwarded"]), "{peer}");
        }
        for peer in ["10.0.0.1:5", "0.0.0.0:5", "[fe80::1]:5", "[::ffff:10.0.0.1]:5"] {
            assert!(!here(peer, &[]), "{peer}");
        }
    }
}
