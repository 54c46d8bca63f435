//! The name of a request: the caller's own or a fresh one, given back with the response and on every log line.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Uuid, fmt::Hyphenated};

/// The header that brings a request's name, and takes it back.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest name that is taken from a caller, in bytes.
const MAX_BYTES: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// A request's name: 1 to 128 visible ASCII characters. Clones share it.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The name that `headers` give; a fresh one if they give none, or one that could garble a log.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).filter(|value| {
            let bytes = value.as_bytes();
            (1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        });
        given.map_or_else(Self::fresh, |value| Self(value.clone()))
    }

    /// A name that no other request has; later ones sort after earlier ones.
    #[must_use]
    pub fn fresh() -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
        // Hexadecimal digits and hyphens are always a header's value.
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The same as a header's value.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Does a piece of the request's work, during which it is the current one.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// The request that this code works for, if it is known.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> RequestId {
        RequestId::of(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(value).unwrap())]))
    }

    #[test]
    fn a_callers_name_is_kept_if_it_is_1_to_128_visible_characters() {
        for name in ["a", "7f-3/x!", &"z".repeat(MAX_BYTES)] {
            assert_eq!(of(name.as_bytes()).as_str(), name);
        }
    }

    #[test]
    fn any_other_name_is_replaced_by_a_fresh_one() {
        for name in [&b""[..], b"two words", b"tab\tbed", "caf\u{e9}".as_bytes(), &[b'z'; MAX_BYTES + 1]] {
            let id = of(name);
            assert_eq!(Uuid::try_parse(id.as_str()).unwrap().get_version_num(), 7, "{name:?}");
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }

    #[test]
    fn fresh_names_sort_by_time() {
        let names: Vec<String> = (0..1000).map(|_| RequestId::fresh().to_string()).collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn a_request_is_the_current_one_during_its_own_work_only() {
        assert_eq!(RequestId::current(), None);
        let (outer, inner) = (of(b"outer"), of(b"inner"));
        outer.scope(|| {
            inner.scope(|| assert_eq!(RequestId::current(), Some(inner.clone())));
            assert_eq!(RequestId::current(), Some(outer.clone()));
        });
        assert_eq!(RequestId::current(), None);
    }
}
