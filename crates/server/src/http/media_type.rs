//! The media type of a request body.

use http::{HeaderMap, header::CONTENT_TYPE};

use crate::error::{ErrorReason, RequestError};

/// The media type of JSON.
pub(crate) const JSON: &str = "application/json";

/// Returns the media type that the `Content-Type` header names, without its parameters and in lower
/// case, or an empty string.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Rejects a body that is no JSON by its media type.
///
/// # Errors
/// A [`RequestError`] with the media type.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), RequestError> {
    let found = media_type(headers);
    if found == JSON { Ok(()) } else { Err(refused(&found, JSON)) }
}

/// Returns the error of a body with the media type `found`, in place of `expected`.
pub(crate) fn refused(found: &str, expected: &str) -> RequestError {
    RequestError::new(ErrorReason::MediaTypeRefused)
        .field(CONTENT_TYPE)
        .value(if found.is_empty() { "missing" } else { found })
        .limit(expected)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_json_is_accepted_whatever_its_parameters() {
        let check = |content_type: &'static str| {
            check_json(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]))
        };
        assert_eq!(check("Application/JSON; charset=utf-8"), Ok(()));
        let error = check("text/plain").unwrap_err().to_string();
        assert_eq!(error, "unsupported media type in content-type: text/plain, expected application/json");
        assert!(check_json(&HeaderMap::new()).unwrap_err().to_string().contains("missing"));
    }
}
