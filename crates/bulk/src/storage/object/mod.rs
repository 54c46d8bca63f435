//! Objects of stores: S3, Google Cloud Storage, Azure Blob Storage and web servers.
//!
//! Requests run on the threads of `wait`, which a synchronous caller waits for. Every request has
//! limits on its time and its retries. An object is read by ranges, so a connection is never idle
//! while results are awaited.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod listing;
mod upload;
mod reader;
mod request;
mod stores;
mod errors;
mod wait;
#[cfg(test)]
mod tests;

pub(super) use listing::{add_lengths, file_names};
pub(super) use reader::Object;
pub(super) use upload::Upload;
