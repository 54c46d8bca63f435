//! Who asks, and what is owed to them.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
};

use scheduler::{ClientId, Priority};

use crate::{auth::Quota, errors::Refusal};

/// Whom a request is counted to: an extension of every request, put there by the authentication ahead of it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name of the API key; `None` where there are no keys.
    pub key: Option<Arc<str>>,
    /// Whose share of the queue and the engine it is: the key's, or the connection's where there are no keys.
    pub client: ClientId,
    /// The highest class that the caller may ask for.
    pub highest: Priority,
    /// Share of the engine beside others of the same class.
    pub weight: u32,
    /// What the key may ask a second.
    pub quota: Option<Arc<Quota>>,
    /// Whether the key is an administrator's.
    pub admin: bool,
}

impl Caller {
    /// Someone without a key, known by `connection`: its address, say.
    #[must_use]
    pub fn anonymous(connection: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        connection.hash(&mut hasher);
        let client = ClientId(hasher.finish());
        Self { key: None, client, highest: Priority::High, weight: 1, quota: None, admin: false }
    }

    /// The class that a request gets that asks for `wanted`.
    #[must_use]
    pub fn priority(&self, wanted: Priority) -> Priority {
        // The most urgent class is the first one.
        wanted.max(self.highest)
    }

    /// Takes `questions` out of what the caller may ask.
    ///
    /// # Errors
    /// A [`Refusal`] of the request if that is too much for now, or for ever.
    pub fn admit(&self, questions: usize) -> Result<(), Refusal> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.take(questions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_above_the_callers_highest_becomes_that_one() {
        let caller = Caller { highest: Priority::Normal, ..Caller::anonymous(1) };
        assert_eq!(caller.priority(Priority::High), Priority::Normal);
        assert_eq!(caller.priority(Priority::Low), Priority::Low);
    }

    #[test]
    fn a_connection_is_one_client_and_another_connection_another() {
        assert_eq!(Caller::anonymous("a:1").client, Caller::anonymous("a:1").client);
        assert_ne!(Caller::anonymous("a:1").client, Caller::anonymous("a:2").client);
    }
}
