//! Checkpoints by name: `org/name[@revision]` to a folder of the cache that all tools of Hugging Face share.
//!
//! [`Hub::fetch`] asks the hub which commit a revision is, downloads what a checkpoint needs and is not in the cache yet,
//! and gives the snapshot's folder. Offline, or with a commit's hash that the cache holds, it touches no network.

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
