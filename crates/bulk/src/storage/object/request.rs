//! Requests with a limit on their time.

use std::{future::Future, io, time::Duration};

use object_store::Result;

use crate::storage::{location::ObjectUrl, object::errors::request_error};

/// Time for a request with its retries and at most [`MAX_REQUEST_BYTES`] bytes.
const REQUEST_LIMIT: Duration = Duration::from_secs(180);

/// Maximum number of bytes of a request, but for one page of a Parquet file.
pub(super) const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Waits for the answer of a request about `url`.
///
/// # Errors
/// An error of the request, or an answer that takes too long.
pub(super) async fn answer<T>(url: &ObjectUrl, request: impl Future<Output = Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(answer) => answer.map_err(|error| request_error(url, &error)),
        Err(_) => Err(too_slow()),
    }
}

fn too_slow() -> io::Error {
    let message = format!("the server has not answered in {} s", REQUEST_LIMIT.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}
