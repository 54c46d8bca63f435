//! The W3C's trace context, in from a caller's headers and out to where images are fetched from.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, TraceId,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The header that names a trace.
const TRACEPARENT: &str = "traceparent";

/// The header of what tracing systems pass along with it.
const TRACESTATE: &str = "tracestate";

/// Longest `tracestate` that is passed on, in bytes: what the W3C wants to be passed on at least. Every span carries it.
const MAX_STATE_BYTES: usize = 512;

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?.to_str().ok()?;
        (key != TRACESTATE || value.len() <= MAX_STATE_BYTES).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing(HeaderMap);

impl Injector for Outgoing {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::from_str(&value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

/// The caller's span as a parent; an empty context if there is none, or none that can be read.
pub(super) fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers))
}

/// Headers that make the span of `context` the parent of what is done for the request that they go with.
pub(super) fn inject(context: &Context) -> HeaderMap {
    let mut headers = Outgoing(HeaderMap::new());
    TraceContextPropagator::new().inject_context(context, &mut headers);
    headers.0
}

/// The trace that a caller's headers name, whether or not it is exported here.
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
    fn what_comes_in_goes_out() {
        let sent = headers(PARENT, "shop=cart");
        assert_eq!(inject(&extract(&sent)), sent);
        let trace_id = remote_trace_id(&sent).unwrap().to_string();
        assert_eq!(trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_is_no_trace_context_is_none() {
        for parent in ["", "00-x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "\u{1f600}"] {
            let Ok(value) = HeaderValue::from_str(parent) else { continue };
            let headers = HeaderMap::from_iter([(HeaderName::from_static(TRACEPARENT), value)]);
            assert_eq!(remote_trace_id(&headers), None, "{parent}");
        }
        assert!(inject(&extract(&HeaderMap::new())).is_empty());
    }

    #[test]
    fn a_long_tracestate_is_left_behind() {
        let long = format!("shop={}", "x".repeat(MAX_STATE_BYTES));
        let passed = inject(&extract(&headers(PARENT, &long)));
        assert_eq!(passed.keys().collect::<Vec<_>>(), [TRACEPARENT]);
    }
}
