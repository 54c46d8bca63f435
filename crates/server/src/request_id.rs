//! Request ids: chosen by the client or the server, and part of every response and log line.

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{ContextV7, Timestamp, Uuid, fmt::Hyphenated};

/// The header of the request id, in requests and responses.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The maximum length of a client's request id, in bytes.
const MAX_BYTES: usize = 128;

/// Orders the ids of one millisecond.
static CONTEXT: Mutex<ContextV7> = Mutex::new(ContextV7::new());

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The id of a request: 1 to 128 visible ASCII characters. Clones share it.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the id in `headers`, or a new one if there is none or it is invalid in a log.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let valid = headers.get(REQUEST_ID).filter(|value| {
            let bytes = value.as_bytes();
            (1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        });
        valid.map_or_else(Self::new_unique, |value| Self(value.clone()))
    }

    /// Creates a unique id. Later ids sort after earlier ones.
    #[must_use]
    #[expect(clippy::disallowed_types, reason = "the id contains the wall-clock time")]
    pub fn new_unique() -> Self {
        // A wall clock before 1970 gives ids of the time 0, which are unique as well.
        Self::at(std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn at(since_1970: Duration) -> Self {
        let time = Timestamp::from_unix(&CONTEXT, since_1970.as_secs(), since_1970.subsec_nanos());
        let mut text = [0; Hyphenated::LENGTH];
        let text = Uuid::new_v7(time).hyphenated().encode_lower(&mut text);
        // Hexadecimal digits and hyphens are always a valid header value.
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Returns the id as a header value.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Runs a part of the request's work. During it, this is the current id.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// Returns the id of the request for which this code runs, if it is known.
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
    fn client_id_of_1_to_128_visible_characters_is_used() {
        for id in ["a", "7f-3/x!", &"z".repeat(MAX_BYTES)] {
            assert_eq!(of(id.as_bytes()).as_str(), id);
        }
    }

    #[test]
    fn invalid_client_id_is_replaced() {
        for text in [&b""[..], b"two words", b"tab\tbed", "caf\u{e9}".as_bytes(), &[b'z'; MAX_BYTES + 1]] {
            let id = of(text);
            assert_eq!(Uuid::try_parse(id.as_str()).unwrap().get_version_num(), 7, "{text:?}");
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }

    #[test]
    fn new_ids_sort_by_time() {
        let ids: Vec<String> = (0..1000).map(|_| RequestId::new_unique().to_string()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn ids_of_a_clock_before_1970_are_unique() {
        let ids: std::collections::HashSet<String> =
            (0..1000).map(|_| RequestId::at(Duration::ZERO).to_string()).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn id_is_current_during_the_work_of_its_request_only() {
        assert_eq!(RequestId::current(), None);
        let (outer, inner) = (of(b"outer"), of(b"inner"));
        outer.scope(|| {
            inner.scope(|| assert_eq!(RequestId::current(), Some(inner.clone())));
            assert_eq!(RequestId::current(), Some(outer.clone()));
        });
        assert_eq!(RequestId::current(), None);
    }
}
