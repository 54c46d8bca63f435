//! What a request asks for, in names that strangers cannot multiply.

use std::fmt;

use axum::extract::MatchedPath;
use http::{Extensions, HeaderMap, Method, StatusCode};
use tonic::Code;

use crate::{errors::code_name, monitor};

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, its status in headers or trailers.
    Grpc,
    /// HTTP.
    Http,
}

/// The method or route that a request asks for.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A method of gRPC.
    Grpc(&'static str),
    /// A route of HTTP, if there is one for the path.
    Http(Method, Option<MatchedPath>),
}

impl Target {
    pub(super) fn new(protocol: Protocol, method: &Method, path: &str, extensions: &Extensions) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc(monitor::method_of(path)),
            Protocol::Http => Self::Http(method.clone(), extensions.get().cloned()),
        }
    }
}

impl fmt::Display for Target {
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

/// A method as OpenTelemetry's conventions name it: a client may invent some.
pub(super) fn method_name(method: &Method) -> &'static str {
    let known = ["GET", "POST", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE"];
    known.into_iter().find(|name| method == name).unwrap_or("_OTHER")
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With this status of gRPC.
    Grpc(Code),
    /// With this status of HTTP; none if its caller left before.
    Http(Option<StatusCode>),
}

impl Ending {
    /// That of a request whose caller leaves now.
    pub(super) fn left(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc(Code::Cancelled),
            Protocol::Http => Self::Http(None),
        }
    }

    /// Takes the status out of gRPC's headers or trailers, if they hold it.
    pub(super) fn see(&mut self, headers: &HeaderMap) {
        if let (Self::Grpc(code), Some(status)) = (self, headers.get("grpc-status")) {
            *code = Code::from_bytes(status.as_bytes());
        }
    }

    /// Whether the server itself is at fault.
    pub(super) fn is_fault(self) -> bool {
        match self {
            Self::Grpc(code) => matches!(code, Code::Internal | Code::Unknown | Code::DataLoss),
            Self::Http(status) => status == Some(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl fmt::Display for Ending {
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
    fn what_strangers_invent_has_one_name() {
        let grpc = |path| Target::new(Protocol::Grpc, &Method::POST, path, &Extensions::new()).to_string();
        assert_eq!(grpc("/blip.v1.BlipService/Ask"), "Ask");
        assert_eq!(grpc("/blip.v1.BlipService/Invented"), "other");
        let invented = Method::from_bytes(b"INVENTED").unwrap();
        let http = Target::new(Protocol::Http, &invented, "/secret", &Extensions::new());
        assert_eq!(http.to_string(), "_OTHER other");
    }

    #[test]
    fn a_call_without_a_status_was_left_and_one_with_has_that() {
        let mut ending = Ending::left(Protocol::Grpc);
        assert_eq!(ending.to_string(), "CANCELLED");
        ending.see(&HeaderMap::new());
        assert_eq!(ending, Ending::Grpc(Code::Cancelled));
        ending.see(&HeaderMap::from_iter([("grpc-status".parse().unwrap(), "13".parse().unwrap())]));
        assert_eq!(ending.to_string(), "INTERNAL");
        assert!(ending.is_fault());
        assert!(!Ending::left(Protocol::Http).is_fault());
    }
}
