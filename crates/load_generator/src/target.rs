//! The interface to the server under test.

use std::future::Future;

use crate::workload::LoadRequest;

/// A client of the server under test, for any protocol.
pub trait Target: Send + Sync + 'static {
    /// Sends a request and waits until every question has its answer or its error.
    fn send(&self, request: LoadRequest) -> impl Future<Output = LoadResult> + Send;
}

/// The result of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadResult {
    /// Number of questions with an answer.
    pub answered: u32,
    /// The error of every other question: a short, stable reason.
    pub errors: Vec<String>,
}
