//! Computes how long a shared cache may reuse a response (RFC 9111).

use std::time::Duration;

use reqwest::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderName, PRAGMA, VARY};

/// Returns how long a response with these headers is fresh from its arrival.
///
/// - Zero means that the response must not be cached.
/// - Only explicit lifetimes count. `Last-Modified` is not used for heuristics.
/// - `Expires` is relative to the `Date` of the response, so no clock has to be right.
pub(super) fn lifetime(headers: &HeaderMap) -> Duration {
    let lists = |name: HeaderName| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    // All requests have the same headers, but `Vary` on others still marks a personal response.
    if lists(VARY).any(|value| !value.trim().eq_ignore_ascii_case("accept-encoding")) {
        return Duration::ZERO;
    }
    let mut max_age = None;
    let mut shared_max_age = None;
    for directive in lists(CACHE_CONTROL).chain(lists(PRAGMA)).flat_map(|list| list.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = || Some(value.trim().trim_matches('"').parse().unwrap_or(0));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" | "private" => return Duration::ZERO,
            "max-age" => max_age = max_age.or_else(seconds),
            "s-maxage" => shared_max_age = shared_max_age.or_else(seconds),
            _ => {}
        }
    }
    let age = lists(AGE).next().map_or(0, |value| value.trim().parse().unwrap_or(u64::MAX));
    let time = |name| lists(name).next().and_then(|value| httpdate::parse_http_date(value).ok());
    let until_expiry = || Some(time(EXPIRES)?.duration_since(time(DATE)?).ok()?.as_secs());
    let seconds: u64 = shared_max_age.or(max_age).or_else(until_expiry).unwrap_or(0);
    Duration::from_secs(seconds.saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(headers: &[(&'static str, &'static str)]) -> u64 {
        let pairs =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        lifetime(&HeaderMap::from_iter(pairs)).as_secs()
    }

    #[test]
    fn explicit_lifetime_is_reduced_by_age() {
        assert_eq!(seconds(&[("cache-control", "public, max-age=60")]), 60);
        assert_eq!(seconds(&[("cache-control", "max-age=\"60\""), ("age", "45")]), 15);
        assert_eq!(seconds(&[("cache-control", "max-age=60, s-maxage=10")]), 10);
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("age", "61")]), 0);
    }

    #[test]
    fn expires_is_relative_to_date_without_max_age() {
        let date = ("date", "Mon, 23 Nov 2026 12:00:00 GMT");
        let expires = ("expires", "Mon, 23 Nov 2026 12:01:00 GMT");
        assert_eq!(seconds(&[date, expires]), 60);
        assert_eq!(seconds(&[date, expires, ("age", "20")]), 40);
        assert_eq!(seconds(&[date, expires, ("cache-control", "max-age=5")]), 5);
        assert_eq!(seconds(&[date, expires, ("cache-control", "no-store")]), 0);
        assert_eq!(seconds(&[expires]), 0);
        assert_eq!(seconds(&[date, ("expires", "0")]), 0);
        assert_eq!(seconds(&[expires, ("date", "Mon, 23 Nov 2026 12:02:00 GMT")]), 0);
    }

    #[test]
    fn private_or_undeclared_response_is_not_cached() {
        for directive in ["no-store, max-age=60", "Private, max-age=60", "no-cache", "max-age=never", ""] {
            assert_eq!(seconds(&[("cache-control", directive)]), 0, "{directive}");
        }
        assert_eq!(seconds(&[]), 0);
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("age", "young")]), 0);
    }

    #[test]
    fn vary_other_than_accept_encoding_is_not_cached() {
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("vary", "Accept-Encoding")]), 60);
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("vary", "*")]), 0);
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("vary", "cookie")]), 0);
    }
}
