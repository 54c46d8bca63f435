//! Metrics of one request.

use std::borrow::Cow;

use metrics::Gauge;
use tokio::time::Instant;

use crate::telemetry::metrics::table::{calls_in_flight, count_call};

/// A request in progress. It is counted when it is dropped, with the last code that was set.
#[derive(Debug)]
pub(crate) struct CallRecord {
    protocol: &'static str,
    method: Cow<'static, str>,
    code: Cow<'static, str>,
    begin: Instant,
    running: Gauge,
}

impl CallRecord {
    /// Begins a request. `cancelled` is its code if the client disconnects before the response.
    pub(crate) fn begin(
        protocol: &'static str,
        method: impl Into<Cow<'static, str>>,
        cancelled: &'static str,
    ) -> Self {
        let running = calls_in_flight(protocol);
        running.increment(1.0);
        Self { protocol, method: method.into(), code: cancelled.into(), begin: Instant::now(), running }
    }

    /// Sets the code of the response.
    pub(crate) fn set_code(&mut self, code: impl Into<Cow<'static, str>>) {
        self.code = code.into();
    }

    /// Returns the method or route.
    #[cfg(test)]
    pub(crate) fn method(&self) -> &str {
        &self.method
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        self.running.decrement(1.0);
        count_call(self.protocol, &self.method, &self.code, self.begin.elapsed());
    }
}
