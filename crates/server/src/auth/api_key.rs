//! An API key with the rights of the client that presents it.

use std::sync::Arc;

use scheduler::{ClientId, Priority};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Quota, Rate, client::Client},
    config::secret::Secret,
};

/// A key with its rights.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Its hash.
    pub secret: Secret,
    /// The highest priority that its client may request.
    pub max_priority: Priority,
    /// The weight of its client in fair queueing among jobs of the same priority.
    pub weight: u32,
    /// The rate limit of its client, or `None` for no limit.
    pub quota: Option<Arc<Quota>>,
    /// Whether its client may load and unload models.
    pub is_admin: bool,
    /// Cancelled when the key is no longer valid.
    pub revoked: CancellationToken,
}

impl ApiKey {
    /// Creates a key with default rights: every priority, no rate limit, no administration.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, secret: Secret) -> Self {
        Self {
            name: name.into(),
            secret,
            max_priority: Priority::High,
            weight: 1,
            quota: None,
            is_admin: false,
            revoked: CancellationToken::new(),
        }
    }

    /// Returns the rate limit of the key.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.quota.as_ref().map(|quota| quota.rate())
    }

    /// Returns the client that this key identifies.
    #[must_use]
    pub fn client(&self) -> Client {
        Client {
            key: Some(Arc::clone(&self.name)),
            id: ClientId(self.secret.prefix()),
            max_priority: self.max_priority,
            weight: self.weight,
            quota: self.quota.clone(),
            is_admin: self.is_admin,
            revoked: Some(self.revoked.clone()),
        }
    }
}
