//! Errors of preprocessing as errors of a request: of a URL, an image, a text or a candidate.

use blip::TokenizeError;
use images::{DecodeError, fetch::FetchError};

use crate::{
    error::{ErrorReason, RequestError},
    preprocess::{candidates::CandidateError, decoding::DecodeFailure},
    request::field_path::FieldPath,
};

/// Returns the error of the URL in `field` that could not be fetched.
#[must_use]
pub fn fetch_error(field: &str, error: &FetchError) -> RequestError {
    let error_of = |reason| RequestError::new(reason).field(field);
    match error {
        FetchError::InvalidUrl(cause) => error_of(ErrorReason::UrlInvalid).cause(cause),
        FetchError::SchemeRefused { scheme } => error_of(ErrorReason::UrlSchemeRefused).value(scheme),
        FetchError::Credentials => error_of(ErrorReason::UrlCredentialsRefused),
        FetchError::PortRefused { port } => error_of(ErrorReason::UrlPortRefused).value(port.to_string()),
        FetchError::HostRefused { host } => error_of(ErrorReason::UrlHostRefused).value(host),
        FetchError::AddressRefused { host } => error_of(ErrorReason::UrlAddressRefused).value(host),
        FetchError::TooManyRedirects { limit } => {
            error_of(ErrorReason::UrlTooManyRedirects).limit(format!("{limit} redirects"))
        }
        FetchError::TooManyRequests { limit } => error_of(ErrorReason::UrlTooManyRedirects)
            .limit(format!("{limit} requests of a call to one host")),
        FetchError::Busy => RequestError::new(ErrorReason::FetchingBusy),
        FetchError::InvalidRedirect => error_of(ErrorReason::UrlInvalidRedirect),
        FetchError::NotFound { host } => error_of(ErrorReason::UrlHostNotFound).value(host),
        FetchError::Connection { host, cause } => {
            error_of(ErrorReason::UrlConnectionFailed).value(host).cause(cause)
        }
        FetchError::Timeout { phase, limit } => {
            error_of(ErrorReason::UrlTimeout).cause(phase).limit(format!("{} ms", limit.as_millis()))
        }
        FetchError::Status { status } => error_of(ErrorReason::UrlBadStatus).value(status.to_string()),
        FetchError::Encoded { encoding } => error_of(ErrorReason::UrlEncoded).value(encoding),
        FetchError::TooManyBytes { limit } => {
            error_of(ErrorReason::UrlTooManyBytes).limit(format!("{limit} bytes"))
        }
    }
}

/// Returns the error of a text that could not be tokenized.
pub(crate) fn text_error(path: FieldPath, position: usize, error: &TokenizeError) -> RequestError {
    let field = path.question(position);
    match error {
        TokenizeError::TooLong { tokens, limit } => RequestError::new(ErrorReason::QuestionTooLong)
            .field(field)
            .value(format!("{tokens} tokens"))
            .limit(format!("{limit} tokens")),
        TokenizeError::Tokenizer(_) => {
            RequestError::new(ErrorReason::QuestionUnreadable).field(field).cause(error)
        }
    }
}

/// Returns the error of the image in `field` that has no pixels.
pub(crate) fn decode_error(field: &str, failure: &DecodeFailure) -> RequestError {
    let error_of = |reason| RequestError::new(reason).field(field);
    match failure {
        DecodeFailure::Image(error) => image_error(field, error),
        DecodeFailure::CpuLimit { spent, limit } => error_of(ErrorReason::ImageTooMuchCpu)
            .value(format!("{} ms", spent.as_millis()))
            .limit(format!("{} ms", limit.as_millis())),
        DecodeFailure::MemoryLimit { limit } => {
            error_of(ErrorReason::ImageTooMuchMemory).limit(format!("{limit} bytes"))
        }
        DecodeFailure::Deadline => RequestError::new(ErrorReason::DeadlineExceeded),
        DecodeFailure::Worker(cause) => error_of(ErrorReason::InternalError).cause(cause),
    }
}

/// Returns the error of the image in `field` that could not be decoded.
fn image_error(field: &str, error: &DecodeError) -> RequestError {
    let reason = match error {
        DecodeError::Empty => ErrorReason::ImageEmpty,
        DecodeError::TooManyBytes { bytes, limit } => {
            return RequestError::new(ErrorReason::ImageTooLarge)
                .field(field)
                .value(format!("{bytes} bytes"))
                .limit(format!("{limit} bytes"));
        }
        DecodeError::UnknownFormat | DecodeError::Unsupported { .. } => ErrorReason::ImageFormatUnknown,
        DecodeError::SideTooLong { .. }
        | DecodeError::TooManyPixels { .. }
        | DecodeError::TooMuchMemory { .. } => ErrorReason::ImageTooManyPixels,
        DecodeError::Truncated { .. } | DecodeError::Corrupt { .. } => ErrorReason::ImageUnreadable,
    };
    RequestError::new(reason).field(field).cause(error)
}

/// Returns the error of candidate `index` of the question at `position`.
pub(crate) fn candidate_error(
    path: FieldPath,
    position: usize,
    index: usize,
    error: CandidateError,
) -> RequestError {
    let field = format!("{}[{index}]", path.candidates(position));
    match error {
        CandidateError::Empty => RequestError::new(ErrorReason::CandidateEmpty).field(field),
        CandidateError::Unreadable(TokenizeError::TooLong { tokens, limit }) => {
            RequestError::new(ErrorReason::CandidateTooLong)
                .field(field)
                .value(format!("{tokens} tokens"))
                .limit(format!("{limit} tokens"))
        }
        CandidateError::Unreadable(error) => {
            RequestError::new(ErrorReason::CandidateUnreadable).field(field).cause(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use images::fetch::FetchPhase;

    use super::*;

    #[test]
    fn fetch_error_has_reason_and_all_details() {
        let host = || "example.org".to_owned();
        let errors = [
            FetchError::InvalidUrl("empty host".into()),
            FetchError::SchemeRefused { scheme: "ftp".into() },
            FetchError::Credentials,
            FetchError::PortRefused { port: 22 },
            FetchError::HostRefused { host: host() },
            FetchError::AddressRefused { host: host() },
            FetchError::TooManyRedirects { limit: 3 },
            FetchError::InvalidRedirect,
            FetchError::NotFound { host: host() },
            FetchError::Connection { host: host(), cause: "no connection" },
            FetchError::Timeout { phase: FetchPhase::Total, limit: Duration::from_secs(20) },
            FetchError::Status { status: 404 },
            FetchError::Encoded { encoding: "gzip".into() },
            FetchError::TooManyBytes { limit: 9 },
        ];
        let mut names: Vec<_> = ErrorReason::ALL.iter().map(|reason| reason.spec().name).collect();
        names.retain(|name| name.starts_with("URL_"));
        assert_eq!(names.len(), errors.len());
        for error in errors {
            let request_error = fetch_error("inputs[0].image.url", &error);
            assert_eq!(request_error.reason().spec().name, error.reason());
            let message = request_error.message();
            assert!(message.contains("inputs[0].image.url") && !message.contains("unknown"), "{message}");
        }
        let too_many = fetch_error("inputs[0].image.url", &FetchError::TooManyRequests { limit: 10 });
        assert_eq!(
            too_many.message(),
            "too many redirects of inputs[0].image.url: 10 requests of a call to one host allowed"
        );
        assert_eq!(fetch_error("", &FetchError::Busy).reason(), ErrorReason::FetchingBusy);
    }
}
