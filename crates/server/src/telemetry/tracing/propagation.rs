//! Reads the W3C trace context of a request, and writes it to requests for images.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, TraceId,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The header with the ids of a trace and of the parent span.
const TRACEPARENT: &str = "traceparent";

/// The header with data of tracing systems.
const TRACESTATE: &str = "tracestate";

/// The maximum length of a `tracestate`, in bytes, which is the minimum that the W3C requires.
///
/// Every span holds a copy of it. A longer one is dropped.
const MAX_STATE_BYTES: usize = 512;

struct IncomingHeaders<'a>(&'a HeaderMap);

impl Extractor for IncomingHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?.to_str().ok()?;
        (key != TRACESTATE || value.len() <= MAX_STATE_BYTES).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct OutgoingHeaders(HeaderMap);

impl Injector for OutgoingHeaders {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::from_str(&value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

/// Reads the parent span in the headers of a client. Returns an empty context without a valid one.
pub(crate) fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &IncomingHeaders(headers))
}

/// Returns headers that make the span of `context` the parent span of a request.
pub(crate) fn inject(context: &Context) -> HeaderMap {
    let mut headers = OutgoingHeaders(HeaderMap::new());
    TraceContextPropagator::new().inject_context(context, &mut headers);
    headers.0
}

/// Returns the trace id in the headers of a client, also if this server exports no traces.
#[must_use]
pub fn remote_trace_id(headers: &HeaderMap) -> Option<TraceId> {
    headers.get(TRACEPARENT)?;
    let context = extract(headers);
    context.has_active_span().then(|| context.span().span_context().trace_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parent: &str, state: &str) -> HeaderMap {
        HeaderMap::from_iter([
            (HeaderName::from_static(TRACEPARENT), parent.parse().unwrap()),
            (HeaderName::from_static(TRACESTATE), state.parse().unwrap()),
        ])
    }

    #[test]
    fn trace_context_is_passed_on_unchanged() {
        let sent = headers(PARENT, "shop=cart");
        assert_eq!(inject(&extract(&sent)), sent);
        let trace_id = remote_trace_id(&sent).unwrap().to_string();
        assert_eq!(trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn invalid_trace_context_is_ignored() {
        for parent in ["", "00-x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "\u{1f600}"] {
            let Ok(value) = HeaderValue::from_str(parent) else { continue };
            let headers = HeaderMap::from_iter([(HeaderName::from_static(TRACEPARENT), value)]);
            assert_eq!(remote_trace_id(&headers), None, "{parent}");
        }
        assert!(inject(&extract(&HeaderMap::new())).is_empty());
    }

    #[test]
    fn long_tracestate_is_dropped() {
        let long = format!("shop={}", "x".repeat(MAX_STATE_BYTES));
        let passed = inject(&extract(&headers(PARENT, &long)));
        assert_eq!(passed.keys().collect::<Vec<_>>(), [TRACEPARENT]);
    }
}
