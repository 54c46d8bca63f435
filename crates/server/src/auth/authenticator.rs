//! The current API keys, and the client that each of them identifies.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderMap, header::AUTHORIZATION};

use crate::{
    auth::{ApiKey, KeysFileError, client::Client, read_keys},
    config::{secret::Secret, sections::auth::AuthSettings},
    error::{ErrorReason, RequestError},
    fair_share::Caller,
};

/// The header that holds a bare key.
const API_KEY: &str = "x-api-key";

/// Identifies clients by their keys. Clones share the keys, which can change while the server runs.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    from_settings: Vec<ApiKey>,
    file: Option<PathBuf>,
    current: ArcSwap<Vec<ApiKey>>,
}

impl Authenticator {
    /// Reads the keys that `settings` name.
    ///
    /// # Errors
    /// [`KeysFileError`].
    pub fn new(settings: &AuthSettings) -> Result<Self, KeysFileError> {
        let numbered = (1..).zip(&settings.auth_keys);
        let from_settings =
            numbered.map(|(number, secret)| ApiKey::new(format!("key-{number}"), *secret)).collect();
        let file = settings.auth_keys_file.clone();
        let keys = Keys { from_settings, file, current: ArcSwap::default() };
        let authenticator = Self(Arc::new(keys));
        authenticator.reload()?;
        Ok(authenticator)
    }

    /// Returns whether clients need no key.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // A keys file without keys rejects every client.
        self.0.file.is_none() && self.0.from_settings.is_empty()
    }

    /// Returns whether a keys file is configured.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.0.file.is_some()
    }

    /// Reloads the keys file and returns the number of keys.
    ///
    /// Keys with an unchanged rate keep their quota. The gRPC responses to clients with a
    /// removed key end.
    ///
    /// # Errors
    /// [`KeysFileError`]. The current keys then remain valid.
    pub fn reload(&self) -> Result<usize, KeysFileError> {
        let mut keys = self.0.from_settings.clone();
        if let Some(file) = &self.0.file {
            keys.extend(read_keys(file)?);
        }
        let before = self.0.current.load();
        let mut gone: HashMap<Secret, &ApiKey> = before.iter().map(|old| (old.secret, old)).collect();
        for key in &mut keys {
            let Some(old) = gone.remove(&key.secret) else { continue };
            key.revoked = old.revoked.clone();
            if old.rate() == key.rate() {
                key.quota.clone_from(&old.quota);
            }
        }
        let count = keys.len();
        self.0.current.store(Arc::new(keys));
        for old in gone.into_values() {
            old.revoked.cancel();
        }
        Ok(count)
    }

    /// Returns the client at `peer` that presents `token`.
    ///
    /// # Errors
    /// A [`RequestError`] for the whole request if keys are required and `token` is missing or
    /// unknown.
    pub fn authenticate(
        &self,
        token: Option<&[u8]>,
        peer: Option<SocketAddr>,
    ) -> Result<Client, RequestError> {
        if self.is_open() {
            return Ok(Client::anonymous(Caller::peer(peer.map(|peer| peer.ip()))));
        }
        let token = token.ok_or_else(|| RequestError::new(ErrorReason::ApiKeyMissing))?;
        let secret = Secret::of(token);
        let keys = self.0.current.load();
        // All keys are compared, so that the time does not depend on which one matches.
        let mut found = None;
        for key in keys.iter() {
            if bool::from(key.secret.matches(&secret)) {
                found = Some(key);
            }
        }
        found.map(ApiKey::client).ok_or_else(|| RequestError::new(ErrorReason::ApiKeyInvalid))
    }
}

/// Returns the key in the headers of a request.
#[must_use]
pub fn token_of(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    });
    bearer.or_else(|| headers.get(API_KEY).map(|value| value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use scheduler::Priority;

    use super::*;
    use crate::config::Settings;

    fn settings() -> AuthSettings {
        Settings::default().auth
    }

    fn reason(client: Result<Client, RequestError>) -> ErrorReason {
        client.unwrap_err().reason()
    }

    #[test]
    fn clients_need_a_key_only_if_keys_are_configured() {
        let open = Authenticator::new(&settings()).unwrap();
        assert_eq!(open.authenticate(Some(b"anything"), None).unwrap().key, None);

        let keys = vec!["correct-horse".parse().unwrap(), "battery-staple".parse().unwrap()];
        let closed = Authenticator::new(&AuthSettings { auth_keys: keys, ..settings() }).unwrap();
        assert_eq!(closed.authenticate(Some(b"battery-staple"), None).unwrap().key.as_deref(), Some("key-2"));
        assert_eq!(reason(closed.authenticate(None, None)), ErrorReason::ApiKeyMissing);
        for wrong in ["", "correct-hors", "correct-horse ", "CORRECT-HORSE"] {
            assert_eq!(
                reason(closed.authenticate(Some(wrong.as_bytes()), None)),
                ErrorReason::ApiKeyInvalid,
                "{wrong}"
            );
        }
    }

    #[test]
    fn connections_with_the_same_key_are_one_client() {
        let keys = vec!["correct-horse".parse().unwrap()];
        let authenticator = Authenticator::new(&AuthSettings { auth_keys: keys, ..settings() }).unwrap();
        let id = |peer: &str| {
            authenticator.authenticate(Some(b"correct-horse"), Some(peer.parse().unwrap())).unwrap().id
        };
        assert_eq!(id("192.0.2.1:1"), id("192.0.2.2:1"));
    }

    #[test]
    fn connections_of_an_address_without_keys_are_one_client() {
        let open = Authenticator::new(&settings()).unwrap();
        let id = |peer: &str| open.authenticate(None, Some(peer.parse().unwrap())).unwrap().id;
        assert_eq!(id("192.0.2.1:1"), id("192.0.2.1:2"));
        assert_ne!(id("192.0.2.1:1"), id("192.0.2.2:1"));
    }

    #[test]
    fn reload_applies_a_valid_file_and_ignores_an_invalid_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("[[keys]]\nname = 'a'\nkey = 'correct-horse'\nquestions_per_s = 1\nburst = 5");
        let authenticator =
            Authenticator::new(&AuthSettings { auth_keys_file: Some(file.clone()), ..settings() }).unwrap();
        let client = |token: &str| authenticator.authenticate(Some(token.as_bytes()), None);
        client("correct-horse").unwrap().take_quota(5).unwrap();

        write("[[keys]]\nname = 'a'");
        assert!(authenticator.reload().is_err());
        assert!(client("correct-horse").is_ok());

        write(
            "[[keys]]\nname = 'a'\nkey = 'correct-horse'\nquestions_per_s = 1\nburst = 5\n\
             [[keys]]\nname = 'b'\nkey = 'battery-staple'\npriority = 'low'",
        );
        assert_eq!(authenticator.reload().unwrap(), 2);
        assert_eq!(client("battery-staple").unwrap().max_priority, Priority::Low);
        // A reload does not refill the quota.
        let error = client("correct-horse").unwrap().take_quota(5).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::RateLimited);

        let (valid, gone) = (client("correct-horse").unwrap(), client("battery-staple").unwrap());
        write("[[keys]]\nname = 'c'\nkey = 'correct-horse'");
        assert_eq!(authenticator.reload().unwrap(), 1);
        let is_revoked = |client: &Client| client.revoked.as_ref().unwrap().is_cancelled();
        assert_eq!((is_revoked(&valid), is_revoked(&gone)), (false, true));

        write("keys = []");
        assert_eq!(authenticator.reload().unwrap(), 0);
        assert!(is_revoked(&valid));
        assert_eq!(reason(client("correct-horse")), ErrorReason::ApiKeyInvalid);
    }

    #[test]
    fn token_is_read_from_either_header() {
        let token = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )]);
            token_of(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(token("authorization", "Bearer abc"), Some(b"abc".to_vec()));
        assert_eq!(token("authorization", "bearer  abc"), Some(b"abc".to_vec()));
        assert_eq!(token("x-api-key", "abc"), Some(b"abc".to_vec()));
        assert_eq!(token("authorization", "Basic abc"), None);
        assert_eq!(token("authorization", "Bearer"), None);
    }

    proptest! {
        #[test]
        fn token_of_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = token_of(&HeaderMap::from_iter([(AUTHORIZATION, value)]));
            }
        }
    }
}
