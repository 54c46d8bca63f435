//! One request, counted when it is over.

use std::borrow::Cow;

use metrics::Gauge;
use tokio::time::Instant;

use super::table::{calls_running, count_call};

/// A request that is counted when it is dropped, with the code that was seen last: the one for callers who left before
/// there was any.
#[derive(Debug)]
pub(super) struct Call {
    protocol: &'static str,
    method: Cow<'static, str>,
    code: Cow<'static, str>,
    begin: Instant,
    running: Gauge,
}

impl Call {
    /// A request that has just come. `left` is the code of those whose callers leave.
    pub(super) fn begin(
        protocol: &'static str,
        method: impl Into<Cow<'static, str>>,
        left: &'static str,
    ) -> Self {
        let running = calls_running(protocol);
        running.increment(1.0);
        Self { protocol, method: method.into(), code: left.into(), begin: Instant::now(), running }
    }

    /// Its code is known.
    pub(super) fn see(&mut self, code: impl Into<Cow<'static, str>>) {
        self.code = code.into();
    }

    /// What it asks for.
    #[cfg(test)]
    pub(super) fn method(&self) -> &str {
        &self.method
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.running.decrement(1.0);
        count_call(self.protocol, &self.method, &self.code, self.begin.elapsed());
    }
}
