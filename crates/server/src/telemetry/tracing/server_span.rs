//! The span of a whole request, named by the semantic conventions of OpenTelemetry.

use http::{HeaderMap, Method, StatusCode};
use opentelemetry::{
    KeyValue,
    trace::{SpanBuilder, SpanKind},
};
use tonic::Code;

use crate::{
    request_id::RequestId,
    telemetry::{
        request_target::{RequestStatus, RequestTarget, method_name},
        tracing::{TraceScope, Tracing, propagation::extract},
    },
};

/// The gRPC service whose methods are traced. Probes and reflection are not.
const SERVICE: &str = "blip.v1.BlipService";

/// The service of the Open Inference Protocol, of which only this method runs a model.
const OPEN_INFERENCE: (&str, &str) = ("inference.GRPCInferenceService", "ModelInfer");

/// The HTTP routes of adapters whose `POST` requests run a model, by their beginnings. The native
/// routes and those of OpenAI begin with `/v1/`.
const ADAPTERS: [&str; 4] = ["/models/", "/hf/", "/invocations", "/v2/models/"];

/// The maximum length of a path in a span, in bytes. Every served path is shorter.
const MAX_PATH_BYTES: usize = 128;

impl Tracing {
    /// Begins the span of a request, if requests for its target are traced.
    pub(in crate::telemetry) fn begin_request(
        &self,
        target: &RequestTarget,
        path: &str,
        headers: &HeaderMap,
        id: &RequestId,
    ) -> TraceScope {
        if !self.is_on() {
            return TraceScope::default();
        }
        let id = KeyValue::new("blip.request.id", id.to_string());
        let span = match target {
            RequestTarget::Grpc(method) => {
                let Some(service) = traced_service(path, method) else { return TraceScope::default() };
                SpanBuilder::from_name(format!("{service}/{method}")).with_attributes([
                    KeyValue::new("rpc.system", "grpc"),
                    KeyValue::new("rpc.service", service),
                    KeyValue::new("rpc.method", *method),
                    id,
                ])
            }
            RequestTarget::Http(method, Some(route)) if is_inference(method, route.as_str()) => {
                SpanBuilder::from_name(target.to_string()).with_attributes([
                    KeyValue::new("http.request.method", method_name(method)),
                    KeyValue::new("http.route", route.as_str().to_owned()),
                    KeyValue::new("url.path", path.get(..MAX_PATH_BYTES).unwrap_or(path).to_owned()),
                    id,
                ])
            }
            RequestTarget::Http(..) => return TraceScope::default(),
        };
        self.begin(span.with_kind(SpanKind::Server), &extract(headers))
    }
}

/// Returns the service of a path, if `method` of it is traced.
fn traced_service(path: &str, method: &str) -> Option<&'static str> {
    let service = path.split('/').nth(1)?;
    let (open_inference, infer) = OPEN_INFERENCE;
    if service == SERVICE {
        return Some(SERVICE);
    }
    (service == open_inference && method == infer).then_some(open_inference)
}

/// Returns whether a route takes inference requests.
fn is_inference(method: &Method, route: &str) -> bool {
    let is_adapter = || route == "/" || ADAPTERS.iter().any(|adapter| route.starts_with(adapter));
    route.starts_with("/v1/")
        || route.starts_with("/blip.v1.BlipService/")
        || *method == Method::POST && is_adapter()
}

impl TraceScope {
    /// Ends the span of a request that has this status.
    pub(in crate::telemetry) fn end_request(&self, status: RequestStatus) {
        match status {
            RequestStatus::Grpc(code) => {
                self.set_attributes(|| [KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code)))]);
                // By the conventions, errors of the client leave the status of a server span unset.
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
            RequestStatus::Http(Some(status)) => {
                self.set_attributes(|| {
                    [KeyValue::new("http.response.status_code", i64::from(status.as_u16()))]
                });
                match status {
                    StatusCode::INTERNAL_SERVER_ERROR => self.fail("500"),
                    StatusCode::SERVICE_UNAVAILABLE => self.fail("503"),
                    status if status.is_server_error() => self.fail("_OTHER"),
                    _ => {}
                }
            }
            RequestStatus::Http(None) => self.fail("cancelled"),
        }
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use http::Extensions;
    use opentelemetry::trace::Status;

    use super::*;
    use crate::telemetry::Protocol;
    use crate::telemetry::tracing::in_memory::SpanRecorder;

    fn serve(recorder: &SpanRecorder, path: &str, status: RequestStatus) {
        let target = RequestTarget::new(Protocol::Grpc, &Method::POST, path, &Extensions::new());
        let id = RequestId::new_unique();
        recorder.tracing().begin_request(&target, path, &HeaderMap::new(), &id).end_request(status);
    }

    #[test]
    fn span_of_a_call_follows_the_conventions() {
        let recorder = SpanRecorder::new(1.0);
        serve(&recorder, "/blip.v1.BlipService/Ask", RequestStatus::Grpc(Code::Unavailable));
        let [span] = recorder.spans().try_into().unwrap();
        assert_eq!((&*span.name, span.span_kind), ("blip.v1.BlipService/Ask", SpanKind::Server));
        for (key, value) in [("rpc.system", "grpc"), ("rpc.service", SERVICE), ("rpc.method", "Ask")] {
            assert!(span.attributes.contains(&KeyValue::new(key, value)), "{key}");
        }
        assert!(span.attributes.contains(&KeyValue::new("rpc.grpc.status_code", 14)));
        assert_eq!(span.status, Status::error("UNAVAILABLE"));
    }

    #[test]
    fn requests_of_adapters_are_traced() {
        let recorder = SpanRecorder::new(1.0);
        serve(&recorder, "/inference.GRPCInferenceService/ModelInfer", RequestStatus::Grpc(Code::Ok));
        serve(&recorder, "/inference.GRPCInferenceService/ServerReady", RequestStatus::Grpc(Code::Ok));
        let [span] = recorder.spans().try_into().unwrap();
        assert_eq!(&*span.name, "inference.GRPCInferenceService/ModelInfer");
        for (route, is_traced) in [
            ("/", true),
            ("/models/{name}", true),
            ("/v2/models/{name}/infer", true),
            ("/invocations", true),
            ("/docs/", false),
            ("/v2/repository/index", false),
        ] {
            assert_eq!(is_inference(&Method::POST, route), is_traced, "{route}");
        }
        assert!(!is_inference(&Method::GET, "/") && !is_inference(&Method::GET, "/v2/models/{name}"));
        assert!(is_inference(&Method::GET, "/v1/models"));
    }

    #[test]
    fn client_error_leaves_the_span_status_unset() {
        let recorder = SpanRecorder::new(1.0);
        serve(&recorder, "/blip.v1.BlipService/AskStream", RequestStatus::Grpc(Code::InvalidArgument));
        assert_eq!(recorder.spans()[0].status, Status::Unset);
    }

    #[test]
    fn probes_and_unknown_services_are_not_traced() {
        let recorder = SpanRecorder::new(1.0);
        for path in
            ["/grpc.health.v1.Health/Check", "/blip.v1.BlipServices/Ask", "/", "", "/x/blip.v1.BlipService"]
        {
            serve(&recorder, path, RequestStatus::Grpc(Code::Ok));
        }
        assert_eq!(recorder.spans().len(), 0);
    }
}
