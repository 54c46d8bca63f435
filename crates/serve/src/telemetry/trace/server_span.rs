//! The span of a request as a whole, in the words of OpenTelemetry's semantic conventions.

use axum::extract::MatchedPath;
use http::{HeaderMap, StatusCode};
use opentelemetry::{
    KeyValue,
    trace::{SpanBuilder, SpanKind},
};
use tonic::Code;

use super::{TraceScope, Tracing, propagation::extract};
use crate::telemetry::{
    RequestId,
    target::{Ending, Target, method_name},
};

/// The service whose methods are traced: probes and reflection would only fill the collector.
const SERVICE: &str = "blip.v1.BlipService";

/// Longest part of a path that a span holds, in bytes; every path that is served is shorter.
const MAX_PATH_BYTES: usize = 128;

impl Tracing {
    /// Begins to trace a request, if requests for its target are.
    pub(in crate::telemetry) fn serve(
        &self,
        target: &Target,
        path: &str,
        headers: &HeaderMap,
        id: &RequestId,
    ) -> TraceScope {
        if !self.is_on() {
            return TraceScope::default();
        }
        let id = KeyValue::new("blip.request.id", id.to_string());
        let span = match target {
            Target::Grpc(method) if path.split('/').nth(1) == Some(SERVICE) => {
                SpanBuilder::from_name(format!("{SERVICE}/{method}")).with_attributes([
                    KeyValue::new("rpc.system", "grpc"),
                    KeyValue::new("rpc.service", SERVICE),
                    KeyValue::new("rpc.method", *method),
                    id,
                ])
            }
            Target::Http(method, Some(route)) if is_asked(route) => {
                SpanBuilder::from_name(target.to_string()).with_attributes([
                    KeyValue::new("http.request.method", method_name(method)),
                    KeyValue::new("http.route", route.as_str().to_owned()),
                    KeyValue::new("url.path", path.get(..MAX_PATH_BYTES).unwrap_or(path).to_owned()),
                    id,
                ])
            }
            Target::Grpc(_) | Target::Http(..) => return TraceScope::default(),
        };
        self.begin(span.with_kind(SpanKind::Server), &extract(headers))
    }
}

/// Whether a route takes questions.
fn is_asked(route: &MatchedPath) -> bool {
    route.as_str().starts_with("/v1/") || route.as_str().starts_with("/blip.v1.BlipService/")
}

impl TraceScope {
    /// Ends the span of a request.
    pub(in crate::telemetry) fn end_server_span(&self, ending: Ending) {
        match ending {
            Ending::Grpc(code) => {
                self.say(|| [KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code)))]);
                // What the caller is at fault for is no error of a server's span.
                match code {
                    Code::Unknown => self.fail("UNKNOWN"),
                    Code::DeadlineExceeded => self.fail("DEADLINE_EXCEEDED"),
                    Code::Unimplemented => self.fail("UNIMPLEMENTED"),
                    Code::Internal => self.fail("INTERNAL"),
                    Code::Unavailable => self.fail("UNAVAILABLE"),
                    Code::DataLoss => self.fail("DATA_LOSS"),
                    _ => {}
                }
            }
            Ending::Http(Some(status)) => {
                self.say(|| [KeyValue::new("http.response.status_code", i64::from(status.as_u16()))]);
                match status {
                    StatusCode::INTERNAL_SERVER_ERROR => self.fail("500"),
                    StatusCode::SERVICE_UNAVAILABLE => self.fail("503"),
                    status if status.is_server_error() => self.fail("_OTHER"),
                    _ => {}
                }
            }
            Ending::Http(None) => self.fail("cancelled"),
        }
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use http::{Extensions, Method};
    use opentelemetry::trace::Status;

    use super::{super::recorded::Recorder, *};
    use crate::telemetry::Protocol;

    fn serve(recorder: &Recorder, path: &str, ending: Ending) {
        let target = Target::new(Protocol::Grpc, &Method::POST, path, &Extensions::new());
        let id = RequestId::fresh();
        recorder.tracing().serve(&target, path, &HeaderMap::new(), &id).end_server_span(ending);
    }

    #[test]
    fn a_call_is_told_in_the_words_of_the_conventions() {
        let recorder = Recorder::new(1.0);
        serve(&recorder, "/blip.v1.BlipService/Ask", Ending::Grpc(Code::Unavailable));
        let [span] = recorder.spans().try_into().unwrap();
        assert_eq!((&*span.name, span.span_kind), ("blip.v1.BlipService/Ask", SpanKind::Server));
        for (key, value) in [("rpc.system", "grpc"), ("rpc.service", SERVICE), ("rpc.method", "Ask")] {
            assert!(span.attributes.contains(&KeyValue::new(key, value)), "{key}");
        }
        assert!(span.attributes.contains(&KeyValue::new("rpc.grpc.status_code", 14)));
        assert_eq!(span.status, Status::error("UNAVAILABLE"));
    }

    #[test]
    fn what_the_caller_is_at_fault_for_is_no_error_of_the_server() {
        let recorder = Recorder::new(1.0);
        serve(&recorder, "/blip.v1.BlipService/AskStream", Ending::Grpc(Code::InvalidArgument));
        assert_eq!(recorder.spans()[0].status, Status::Unset);
    }

    #[test]
    fn probes_and_what_strangers_invent_are_not_traced() {
        let recorder = Recorder::new(1.0);
        for path in
            ["/grpc.health.v1.Health/Check", "/blip.v1.BlipServices/Ask", "/", "", "/x/blip.v1.BlipService"]
        {
            serve(&recorder, path, Ending::Grpc(Code::Ok));
        }
        assert_eq!(recorder.spans().len(), 0);
    }
}
