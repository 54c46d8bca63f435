//! Decodes `data:` URLs (RFC 2397), in base64 or percent-encoded.

use bytes::Bytes;
use data_url::DataUrl;
use data_url::forgiving_base64::DecodeError;

use crate::fetch::error::FetchError;

/// Whether `url` is a `data:` URL.
#[must_use]
pub fn is_data_url(url: &str) -> bool {
    url.trim_start().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Decodes the `data:` URL `url` to at most `limit` bytes. The declared media type is ignored.
///
/// Reads all of the text, so large URLs belong on a CPU pool.
///
/// # Errors
/// [`FetchError::InvalidUrl`] and [`FetchError::TooManyBytes`].
pub fn decode(url: &str, limit: usize) -> Result<Bytes, FetchError> {
    let invalid = || FetchError::InvalidUrl("malformed data url".to_owned());
    let parsed = DataUrl::process(url).map_err(|_| invalid())?;
    let mut body = Vec::new();
    let decoded = parsed.decode(|part| {
        if body.len() + part.len() > limit {
            return Err(FetchError::TooManyBytes { limit });
        }
        body.extend_from_slice(part);
        Ok(())
    });
    match decoded {
        Ok(_) => Ok(body.into()),
        Err(DecodeError::WriteError(error)) => Err(error),
        Err(DecodeError::InvalidBase64(_)) => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_percent_encoding_are_decoded() {
        assert!(is_data_url("DATA:,a") && !is_data_url("http://data:,"));
        assert_eq!(decode("data:image/png;base64,iVBORw==", 10).unwrap().as_ref(), b"\x89PNG");
        assert_eq!(decode("data:,%89PNG", 10).unwrap().as_ref(), b"\x89PNG");
    }

    #[test]
    fn limit_applies_to_decoded_bytes() {
        assert_eq!(decode("data:;base64,AAAAAAAA", 6).unwrap().len(), 6);
        assert_eq!(decode("data:;base64,AAAAAAAAAAAA", 6), Err(FetchError::TooManyBytes { limit: 6 }));
        assert_eq!(decode("data:,1234567", 6), Err(FetchError::TooManyBytes { limit: 6 }));
    }

    #[test]
    fn malformed_data_url_is_invalid() {
        for url in ["data:", "data:;base64", "data:;base64,A*=="] {
            assert_eq!(decode(url, 10).unwrap_err().reason(), "URL_INVALID", "{url}");
        }
    }
}
