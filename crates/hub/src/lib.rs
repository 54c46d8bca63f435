//! A client of the Hugging Face hub: downloads a checkpoint by name into a local folder.
//!
//! The folder belongs to the cache that all tools of Hugging Face share. [`Hub::fetch`]
//! processes a [`RepositoryName`] (`org/name[@revision]`) in these steps:
//!
//! 1. `client::listing` resolves the revision to a commit and lists its files.
//! 2. `files::checkpoint_files` selects the files of a checkpoint.
//! 3. `client::transfer` downloads the files that the cache lacks, and resumes partial downloads.
//! 4. `files::cached_repository` links the files into the folder of the [`Snapshot`].
//!
//! Offline, or for a commit hash whose snapshot is complete, it sends no request.
//!
//! Modules are listed from entry point to foundation. Each uses only modules below it.

mod hub;
mod client;
mod files;
mod progress;
mod config;
mod error;
mod repository_name;
mod sleeper;
mod token;

pub use config::{Config, ConfigError};
pub use error::HubError;
pub use hub::{Hub, Snapshot};
pub use progress::Progress;
pub use repository_name::{NameError, RepositoryName};
pub use sleeper::Sleeper;
pub use token::Token;
