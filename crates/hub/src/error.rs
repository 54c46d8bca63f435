//! Why a model could not be fetched.

use std::{io, path::PathBuf, time::Duration};

use indicatif::BinaryBytes;

/// What went wrong, in one line that never holds a token nor an address that is signed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The HTTP client cannot be set up.
    #[error("cannot set up the client of {endpoint}: {reason}")]
    Setup {
        /// The hub's address.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// The network may not be used, and the cache has too little.
    #[error("HF_HUB_OFFLINE is set, and the cache in {folder} has no {missing} of {model}")]
    Offline {
        /// The model's name with its revision.
        model: String,
        /// The model's folder in the cache.
        folder: PathBuf,
        /// What is not there.
        missing: String,
    },
    /// The hub knows no such model, or does not admit to it.
    #[error("{endpoint} has no model {repository}, or it is private{hint}")]
    NoModel {
        /// The hub's address.
        endpoint: String,
        /// `org/name`.
        repository: String,
        /// What could be done about it.
        hint: &'static str,
    },
    /// The model is given only to those who have agreed to its terms.
    #[error("{repository} is gated: agree to its terms at {endpoint}/{repository}{hint}")]
    Gated {
        /// The hub's address.
        endpoint: String,
        /// `org/name`.
        repository: String,
        /// What could be done about it.
        hint: &'static str,
    },
    /// The model has no such branch, tag or commit.
    #[error("{repository} has no revision {revision} on {endpoint}")]
    NoRevision {
        /// The hub's address.
        endpoint: String,
        /// `org/name`.
        repository: String,
        /// The revision asked for.
        revision: String,
    },
    /// The model lacks files that a checkpoint needs.
    #[error("{model} has no {missing}; it has {found}")]
    MissingFiles {
        /// The model's name with its revision.
        model: String,
        /// What it lacks.
        missing: String,
        /// What it has instead.
        found: String,
    },
    /// Another status than any that is expected.
    #[error("{host} answered {status} for {what}{message}")]
    Status {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The file or question.
        what: String,
        /// The hub's own word for what is wrong, as in `X-Error-Code`; may be empty.
        code: String,
        /// The hub's own words, after a colon.
        message: String,
    },
    /// The hub wants to be left alone for longer than is waited.
    #[error("{host} limits the rate of requests and asks to wait {} s", wait.as_secs())]
    RateLimited {
        /// Who answered.
        host: String,
        /// For how long.
        wait: Duration,
    },
    /// No answer, or one that broke off.
    #[error("{host} cannot be reached for {what}: {reason}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// The file or question.
        what: String,
        /// What happened.
        reason: String,
    },
    /// An answer that is not the hub's protocol.
    #[error("{host} gave no sensible answer for {what}: {reason}")]
    Protocol {
        /// Who answered.
        host: String,
        /// The file or question.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The content is not what the hub says it is.
    #[error("{file} has {algorithm} {found}, the hub says {expected}: the transfer is damaged")]
    Checksum {
        /// The file's name.
        file: String,
        /// How it is computed.
        algorithm: &'static str,
        /// Of what came.
        found: String,
        /// Of what should have come.
        expected: String,
    },
    /// The disk is too small.
    #[error("{folder} has {} free, the model needs {} more", BinaryBytes(*free), BinaryBytes(*needed))]
    InsufficientSpace {
        /// The cache.
        folder: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are still to come.
        needed: u64,
    },
    /// The operating system refuses to read or write.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has been at the same file for too long.
    #[error("another process has held {path} for {} s", waited.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl HubError {
    /// For `map_err` of what the operating system is asked to do with `path`.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Whether the hub is out of reach for now, so that a cached copy is better than nothing.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }
}
