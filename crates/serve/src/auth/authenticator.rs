//! The keys in force, and whom a presented one stands for.

use std::{hash::Hash, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderMap, header::AUTHORIZATION};

use super::{ApiKey, KeysFileError, Secret, read_keys};
use crate::{
    caller::Caller,
    errors::{Reason, Refusal},
    settings::AuthSettings,
};

/// The header of a key by itself.
const API_KEY: &str = "x-api-key";

/// Tells callers apart. Clones share the keys, which can change while calls are answered.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    fixed: Vec<ApiKey>,
    file: Option<PathBuf>,
    in_force: ArcSwap<Vec<ApiKey>>,
}

impl Authenticator {
    /// The keys that `settings` name.
    ///
    /// # Errors
    /// [`KeysFileError`].
    pub fn new(settings: &AuthSettings) -> Result<Self, KeysFileError> {
        let numbered = (1..).zip(&settings.auth_keys);
        let fixed = numbered.map(|(number, secret)| ApiKey::new(format!("key-{number}"), *secret)).collect();
        let file = settings.auth_keys_file.clone();
        let keys = Keys { fixed, file, in_force: ArcSwap::default() };
        let authenticator = Self(Arc::new(keys));
        authenticator.reload()?;
        Ok(authenticator)
    }

    /// Whether anyone may call.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // A file without keys lets nobody in.
        self.0.file.is_none() && self.0.fixed.is_empty()
    }

    /// Whether there is anything to read anew.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.0.file.is_some()
    }

    /// Reads the file of keys anew. A key whose rate is as it was keeps its account.
    ///
    /// # Errors
    /// [`KeysFileError`]; then the keys stay as they were.
    pub fn reload(&self) -> Result<usize, KeysFileError> {
        let mut keys = self.0.fixed.clone();
        if let Some(file) = &self.0.file {
            keys.extend(read_keys(file)?);
        }
        let before = self.0.in_force.load();
        for key in &mut keys {
            let same = |old: &&ApiKey| old.secret == key.secret && old.rate() == key.rate();
            if let Some(old) = before.iter().find(same) {
                key.quota.clone_from(&old.quota);
            }
        }
        let count = keys.len();
        self.0.in_force.store(Arc::new(keys));
        Ok(count)
    }

    /// Who presents `token` on `connection`.
    ///
    /// # Errors
    /// A [`Refusal`] of the call, if keys are needed and this is none of them.
    pub fn caller(&self, token: Option<&[u8]>, connection: impl Hash) -> Result<Caller, Refusal> {
        if self.is_open() {
            return Ok(Caller::anonymous(connection));
        }
        let token = token.ok_or_else(|| Refusal::new(Reason::ApiKeyMissing))?;
        let secret = Secret::of(token);
        let keys = self.0.in_force.load();
        // All are looked at, so that the time tells nothing.
        let mut found = None;
        for key in keys.iter() {
            if bool::from(key.secret.matches(&secret)) {
                found = Some(key);
            }
        }
        found.map(ApiKey::caller).ok_or_else(|| Refusal::new(Reason::ApiKeyInvalid))
    }
}

/// The key that a request presents in its headers.
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
    use crate::settings::Settings;

    fn settings() -> AuthSettings {
        Settings::default().auth
    }

    fn reason(caller: Result<Caller, Refusal>) -> Reason {
        caller.unwrap_err().reason()
    }

    #[test]
    fn without_keys_anyone_may_call_and_with_keys_only_their_bearers() {
        let open = Authenticator::new(&settings()).unwrap();
        assert_eq!(open.caller(Some(b"anything"), 1).unwrap().key, None);

        let keys = vec!["correct-horse".parse().unwrap(), "battery-staple".parse().unwrap()];
        let closed = Authenticator::new(&AuthSettings { auth_keys: keys, ..settings() }).unwrap();
        assert_eq!(closed.caller(Some(b"battery-staple"), 1).unwrap().key.as_deref(), Some("key-2"));
        assert_eq!(reason(closed.caller(None, 1)), Reason::ApiKeyMissing);
        for wrong in ["", "correct-hors", "correct-horse ", "CORRECT-HORSE"] {
            assert_eq!(reason(closed.caller(Some(wrong.as_bytes()), 1)), Reason::ApiKeyInvalid, "{wrong}");
        }
    }

    #[test]
    fn a_key_is_one_client_on_all_its_connections() {
        let keys = vec!["correct-horse".parse().unwrap()];
        let authenticator = Authenticator::new(&AuthSettings { auth_keys: keys, ..settings() }).unwrap();
        let client = |connection| authenticator.caller(Some(b"correct-horse"), connection).unwrap().client;
        assert_eq!(client(1), client(2));
    }

    #[test]
    fn a_changed_file_counts_from_the_reload_on_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("[[keys]]\nname = 'a'\nkey = 'correct-horse'\nquestions_per_s = 1\nburst = 5");
        let authenticator =
            Authenticator::new(&AuthSettings { auth_keys_file: Some(file.clone()), ..settings() }).unwrap();
        let caller = |token: &str| authenticator.caller(Some(token.as_bytes()), 1);
        caller("correct-horse").unwrap().admit(5).unwrap();

        write("[[keys]]\nname = 'a'");
        assert!(authenticator.reload().is_err());
        assert!(caller("correct-horse").is_ok());

        write(
            "[[keys]]\nname = 'a'\nkey = 'correct-horse'\nquestions_per_s = 1\nburst = 5\n\
             [[keys]]\nname = 'b'\nkey = 'battery-staple'\npriority = 'low'",
        );
        assert_eq!(authenticator.reload().unwrap(), 2);
        assert_eq!(caller("battery-staple").unwrap().highest, Priority::Low);
        // What the key has used up it has not got back.
        assert_eq!(caller("correct-horse").unwrap().admit(5).unwrap_err().reason(), Reason::RateLimited);

        write("keys = []");
        assert_eq!(authenticator.reload().unwrap(), 0);
        assert_eq!(reason(caller("correct-horse")), Reason::ApiKeyInvalid);
    }

    #[test]
    fn a_token_is_read_from_either_header() {
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
        fn no_header_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = token_of(&HeaderMap::from_iter([(AUTHORIZATION, value)]));
            }
        }
    }
}
