//! The target and the status of a request, as labels whose set of values is bounded.

use std::fmt;

use axum::extract::MatchedPath;
use http::{Extensions, HeaderMap, Method, StatusCode};
use tonic::Code;

use crate::{error::code_name, telemetry::metrics};

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, with the status in headers or trailers.
    Grpc,
    /// HTTP.
    Http,
}

/// The method or route that a request names.
#[derive(Clone, Debug)]
pub(crate) enum RequestTarget {
    /// A gRPC method.
    Grpc(&'static str),
    /// An HTTP method, with the route of the path if one matches.
    Http(Method, Option<MatchedPath>),
}

impl RequestTarget {
    pub(crate) fn new(protocol: Protocol, method: &Method, path: &str, extensions: &Extensions) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc(metrics::method_of(path)),
            Protocol::Http => Self::Http(method.clone(), extensions.get().cloned()),
        }
    }
}

impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(method) => f.write_str(method),
            Self::Http(method, route) => {
                let route = route.as_ref().map_or("other", MatchedPath::as_str);
                write!(f, "{} {route}", method_name(method))
            }
        }
    }
}

/// Returns the name of a method by the conventions of OpenTelemetry.
///
/// Unknown methods share one name.
pub(crate) fn method_name(method: &Method) -> &'static str {
    let known = ["GET", "POST", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE"];
    known.into_iter().find(|name| method == name).unwrap_or("_OTHER")
}

/// The status of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestStatus {
    /// The gRPC status code.
    Grpc(Code),
    /// The HTTP status, or `None` if the client disconnected before there was one.
    Http(Option<StatusCode>),
}

impl RequestStatus {
    /// Returns the status of a request whose client disconnects before the response.
    pub(crate) fn cancelled(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc(Code::Cancelled),
            Protocol::Http => Self::Http(None),
        }
    }

    /// Updates the status from gRPC headers or trailers, if they contain one.
    pub(crate) fn update(&mut self, headers: &HeaderMap) {
        if let (Self::Grpc(code), Some(status)) = (self, headers.get("grpc-status")) {
            *code = Code::from_bytes(status.as_bytes());
        }
    }

    /// Returns whether the server caused the failure.
    pub(crate) fn is_server_fault(self) -> bool {
        match self {
            Self::Grpc(code) => matches!(code, Code::Internal | Code::Unknown | Code::DataLoss),
            Self::Http(status) => status == Some(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl fmt::Display for RequestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(code) => f.write_str(&code_name(*code)),
            Self::Http(Some(status)) => f.write_str(status.as_str()),
            Self::Http(None) => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_routes_share_one_metric_label() {
        let grpc =
            |path| RequestTarget::new(Protocol::Grpc, &Method::POST, path, &Extensions::new()).to_string();
        assert_eq!(grpc("/blip.v1.BlipService/Ask"), "Ask");
        assert_eq!(grpc("/blip.v1.BlipService/Invented"), "other");
        let invented = Method::from_bytes(b"INVENTED").unwrap();
        let http = RequestTarget::new(Protocol::Http, &invented, "/secret", &Extensions::new());
        assert_eq!(http.to_string(), "_OTHER other");
    }

    #[test]
    fn call_without_status_is_cancelled() {
        let mut status = RequestStatus::cancelled(Protocol::Grpc);
        assert_eq!(status.to_string(), "CANCELLED");
        status.update(&HeaderMap::new());
        assert_eq!(status, RequestStatus::Grpc(Code::Cancelled));
        status.update(&HeaderMap::from_iter([("grpc-status".parse().unwrap(), "13".parse().unwrap())]));
        assert_eq!(status.to_string(), "INTERNAL");
        assert!(status.is_server_fault());
        assert!(!RequestStatus::cancelled(Protocol::Http).is_server_fault());
    }
}
