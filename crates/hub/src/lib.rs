//! Checkpoints by name: `org/name[@revision]` to a folder of the cache that all tools of Hugging Face share.
//!
//! [`Hub::fetch`] asks the hub which commit a revision is, downloads what a checkpoint needs and is not in the cache yet,
//! and gives the snapshot's folder. Offline, or with a commit's hash that the cache holds, it touches no network.

mod cache;
mod checksum;
mod client;
mod config;
mod error;
mod failure;
mod file_lock;
mod listing;
mod model_name;
mod partial;
mod progress;
mod retry;
mod snapshot;
mod token;
mod transfer;
mod wanted;

pub use config::{Config, ConfigError};
pub use error::HubError;
pub use model_name::{ModelName, NameError};
pub use progress::Progress;
pub use retry::Pause;
pub use snapshot::{Hub, Snapshot};
pub use token::Token;
