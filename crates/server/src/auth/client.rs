//! The client that a request counts towards.

use std::sync::Arc;

use futures::FutureExt as _;
use scheduler::{ClientId, Priority};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Quota,
    error::{ErrorReason, RequestError},
    fair_share::Caller,
};

/// An authenticated client. The authentication layer stores it in the extensions of each request.
#[derive(Clone, Debug)]
pub struct Client {
    /// The name of its API key, or `None` if no keys are configured.
    pub key: Option<Arc<str>>,
    /// Identifies its shares: one for each key, or for each network of peers without keys.
    pub id: ClientId,
    /// The highest priority that it may request.
    pub max_priority: Priority,
    /// Its weight in fair queueing among jobs of the same priority.
    pub weight: u32,
    /// The rate limit of its key.
    pub quota: Option<Arc<Quota>>,
    /// Whether it may load and unload models.
    pub is_admin: bool,
    /// Cancelled when its key is no longer valid. Its responses then end.
    pub revoked: Option<CancellationToken>,
}

impl Client {
    /// Creates a client without a key.
    #[must_use]
    pub fn anonymous(caller: Caller) -> Self {
        let Caller { id, weight } = caller;
        Self {
            key: None,
            id,
            max_priority: Priority::High,
            weight,
            quota: None,
            is_admin: false,
            revoked: None,
        }
    }

    /// Returns who the client's shares of limited resources are charged to.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller { id: self.id, weight: self.weight }
    }

    /// Returns the error that ends the client's calls once its key is revoked. It is `None` without
    /// keys.
    #[must_use]
    pub fn until_revoked(&self) -> Option<impl Future<Output = RequestError> + Send + use<>> {
        let revoked = self.revoked.clone()?;
        Some(revoked.cancelled_owned().map(|()| RequestError::new(ErrorReason::ApiKeyInvalid)))
    }

    /// Returns the requested priority, lowered to the highest one that the client may request.
    #[must_use]
    pub fn priority(&self, requested: Priority) -> Priority {
        // The order of priorities begins with the most urgent one.
        requested.max(self.max_priority)
    }

    /// Checks that the quota of the client's key has a question left, before its request is read.
    ///
    /// # Errors
    /// A [`RequestError`] for the whole request if the quota is used up.
    pub fn check_quota(&self) -> Result<(), RequestError> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.check_any())
    }

    /// Takes `questions` from the quota of the client's key.
    ///
    /// # Errors
    /// A [`RequestError`] for the whole request if the quota is exceeded.
    pub fn take_quota(&self, questions: usize) -> Result<(), RequestError> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.take(questions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_above_the_clients_maximum_is_lowered() {
        let client = Client { max_priority: Priority::Normal, ..Client::anonymous(Caller::SERVER) };
        assert_eq!(client.priority(Priority::High), Priority::Normal);
        assert_eq!(client.priority(Priority::Low), Priority::Low);
    }
}
