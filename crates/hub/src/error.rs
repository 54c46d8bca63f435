//! Errors of fetching a model.

use std::{io, path::PathBuf, time::Duration};

use indicatif::BinaryBytes;

/// The reason why a model was not fetched.
///
/// The message is one line. It never contains a token or a signed URL.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The HTTP client cannot be created.
    #[error("cannot create the http client of {endpoint}: {reason}")]
    Setup {
        /// The URL of the hub.
        endpoint: String,
        /// The reason.
        reason: String,
    },
    /// The hub is not used, and the cache lacks files.
    #[error("cannot load {model} offline: no {missing} in {folder} (HF_HUB_OFFLINE is set)")]
    Offline {
        /// The model's name with its revision.
        model: String,
        /// The model's folder in the cache.
        folder: PathBuf,
        /// The missing file or snapshot.
        missing: String,
    },
    /// The hub has no such model, or the client may not read it.
    #[error("{endpoint} has no model {repository}, or {hint}")]
    NoModel {
        /// The URL of the hub.
        endpoint: String,
        /// `org/name`.
        repository: String,
        /// The other possible reason.
        hint: &'static str,
    },
    /// The model requires that the user accepts its terms.
    #[error("{repository} is gated: accept its terms at {endpoint}/{repository}{hint}")]
    Gated {
        /// The URL of the hub.
        endpoint: String,
        /// `org/name`.
        repository: String,
        /// The remedy.
        hint: &'static str,
    },
    /// The model has no such branch, tag or commit.
    #[error("{repository} has no revision {revision} on {endpoint}")]
    NoRevision {
        /// The URL of the hub.
        endpoint: String,
        /// `org/name`.
        repository: String,
        /// The requested revision.
        revision: String,
    },
    /// The model lacks files that a checkpoint needs.
    #[error("{model} has no {missing}; found: {found}")]
    MissingFiles {
        /// The model's name with its revision.
        model: String,
        /// The missing file.
        missing: String,
        /// The files that the model has.
        found: String,
    },
    /// The response has an unexpected status.
    #[error("{host} responded with status {status} for {resource}{message}")]
    Status {
        /// The host of the response.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The requested file or model.
        resource: String,
        /// The hub's error code in `X-Error-Code`. May be empty.
        code: String,
        /// A colon and the hub's message. May be empty.
        message: String,
    },
    /// The hub requests a longer delay than the client accepts.
    #[error("rate limit of {host} exceeded: retry after {} s", wait.as_secs())]
    RateLimited {
        /// The host of the response.
        host: String,
        /// The requested delay.
        wait: Duration,
    },
    /// No response arrived, or not all of it.
    #[error("cannot reach {host} for {resource}: {reason}")]
    Unreachable {
        /// The host of the request.
        host: String,
        /// The requested file or model.
        resource: String,
        /// The reason.
        reason: String,
    },
    /// The response violates the protocol of the hub.
    #[error("invalid response of {host} for {resource}: {reason}")]
    Protocol {
        /// The host of the response.
        host: String,
        /// The requested file or model.
        resource: String,
        /// The violation.
        reason: String,
    },
    /// The content does not have the hash that the hub declares.
    #[error("checksum mismatch of {file}: {algorithm} {found}, expected {expected}")]
    Checksum {
        /// The file's name.
        file: String,
        /// The algorithm of the hash.
        algorithm: &'static str,
        /// The hash of the received content.
        found: String,
        /// The declared hash.
        expected: String,
    },
    /// The disk has too little free space.
    #[error(
        "not enough disk space in {folder}: {} free, {} needed",
        BinaryBytes(*free),
        BinaryBytes(*needed)
    )]
    InsufficientSpace {
        /// The cache folder.
        folder: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes to download.
        needed: u64,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process did not release the lock in time.
    #[error("timed out waiting for the lock {path}: locked by another process for {} s", waited.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// The waiting time.
        waited: Duration,
    },
}

impl HubError {
    /// Returns a function for `map_err` that adds the operation and the path to an I/O error.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Whether the hub is temporarily unavailable, so that a cached snapshot may be used.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }
}
