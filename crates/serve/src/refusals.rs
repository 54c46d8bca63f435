//! What the scheduler, the engine and the fetcher say, in the words of the error table.

use std::time::Duration;

use images::fetch::FetchError;
use scheduler::{EngineError, EngineErrorKind, JobError, Refused};

use crate::errors::{Reason, Refusal};

/// When to try again after the device ran out of memory: a batch or two later it may have some.
const RETRY_AFTER_OUT_OF_MEMORY: Duration = Duration::from_secs(1);

/// Why the scheduler did not take a job.
#[must_use]
pub fn refuse_submission(refused: &Refused) -> Refusal {
    let refusal = match refused {
        Refused::QueueFull { .. } | Refused::BytesFull { .. } | Refused::ClientShare { .. } => {
            Refusal::new(Reason::QueueFull).cause(refused)
        }
        Refused::TooLate { .. } => Refusal::new(Reason::DeadlineUnreachable),
        Refused::ShuttingDown => Refusal::new(Reason::ShuttingDown),
        Refused::EngineDead(error) => Refusal::new(Reason::EngineBroken).cause(error),
    };
    match refused.retry_after() {
        Some(wait) => refusal.retry_after(wait),
        None => refusal,
    }
}

/// Why a job that was taken has no answer.
#[must_use]
pub fn refuse_job(error: &JobError) -> Refusal {
    match error {
        JobError::DeadlineExceeded => Refusal::new(Reason::DeadlineExceeded),
        JobError::ShuttingDown => Refusal::new(Reason::ShuttingDown),
        JobError::Engine(error) => refuse_row(error),
    }
}

/// Why the URL in `field` brought no image.
#[must_use]
pub fn refuse_fetch(field: &str, error: &FetchError) -> Refusal {
    let refuse = |reason| Refusal::new(reason).field(field);
    match error {
        FetchError::InvalidUrl(cause) => refuse(Reason::UrlInvalid).cause(cause),
        FetchError::SchemeRefused { scheme } => refuse(Reason::UrlSchemeRefused).value(scheme),
        FetchError::Credentials => refuse(Reason::UrlCredentialsRefused),
        FetchError::PortRefused { port } => refuse(Reason::UrlPortRefused).value(port.to_string()),
        FetchError::HostRefused { host } => refuse(Reason::UrlHostRefused).value(host),
        FetchError::AddressRefused { host } => refuse(Reason::UrlAddressRefused).value(host),
        FetchError::TooManyRedirects { limit } => {
            refuse(Reason::UrlTooManyRedirects).limit(format!("{limit} redirects"))
        }
        FetchError::InvalidRedirect => refuse(Reason::UrlInvalidRedirect),
        FetchError::NotFound { host } => refuse(Reason::UrlHostNotFound).value(host),
        FetchError::Connection { host, cause } => {
            refuse(Reason::UrlConnectionFailed).value(host).cause(cause)
        }
        FetchError::Timeout { stage, limit } => {
            refuse(Reason::UrlTimeout).cause(stage).limit(format!("{} ms", limit.as_millis()))
        }
        FetchError::Status { status } => refuse(Reason::UrlBadStatus).value(status.to_string()),
        FetchError::Encoded { encoding } => refuse(Reason::UrlEncoded).value(encoding),
        FetchError::TooManyBytes { limit } => refuse(Reason::UrlTooManyBytes).limit(format!("{limit} bytes")),
    }
}

fn refuse_row(error: &EngineError) -> Refusal {
    match error.kind {
        EngineErrorKind::Row => Refusal::new(Reason::EngineRefused).cause(error),
        EngineErrorKind::Batch => Refusal::new(Reason::EngineFailed).cause(error),
        EngineErrorKind::OutOfMemory => {
            Refusal::new(Reason::EngineOutOfMemory).cause(error).retry_after(RETRY_AFTER_OUT_OF_MEMORY)
        }
        EngineErrorKind::Fatal => Refusal::new(Reason::EngineBroken).cause(error),
    }
}

#[cfg(test)]
mod tests {
    use images::fetch::Stage;
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let wait = Duration::from_millis(40);
        for refused in [
            Refused::QueueFull { limit: 9, retry_after: wait },
            Refused::BytesFull { limit: 9, retry_after: wait },
            Refused::ClientShare { limit: 9, retry_after: wait },
            Refused::TooLate { retry_after: wait },
        ] {
            let status = refuse_submission(&refused).to_status();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(wait), "{refused}");
        }
    }

    #[test]
    fn a_failed_fetch_has_the_fetchers_reason_and_tells_all_that_its_message_names() {
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
            FetchError::Timeout { stage: Stage::Whole, limit: Duration::from_secs(20) },
            FetchError::Status { status: 404 },
            FetchError::Encoded { encoding: "gzip".into() },
            FetchError::TooManyBytes { limit: 9 },
        ];
        let mut rows: Vec<_> = Reason::ALL.iter().map(|reason| reason.row().name).collect();
        rows.retain(|name| name.starts_with("URL_"));
        assert_eq!(rows.len(), errors.len());
        for error in errors {
            let refusal = refuse_fetch("inputs[0].image.url", &error);
            assert_eq!(refusal.reason().row().name, error.reason());
            let message = refusal.message();
            assert!(message.contains("inputs[0].image.url") && !message.contains("unknown"), "{message}");
        }
    }

    #[test]
    fn each_kind_of_engine_error_has_its_reason() {
        let reason = |kind| refuse_job(&JobError::Engine(EngineError::new(kind, "boom"))).reason();
        assert_eq!(reason(EngineErrorKind::Row), Reason::EngineRefused);
        assert_eq!(reason(EngineErrorKind::Batch), Reason::EngineFailed);
        assert_eq!(reason(EngineErrorKind::OutOfMemory), Reason::EngineOutOfMemory);
        assert_eq!(reason(EngineErrorKind::Fatal), Reason::EngineBroken);
        assert_eq!(refuse_job(&JobError::DeadlineExceeded).reason(), Reason::DeadlineExceeded);
        assert_eq!(refuse_job(&JobError::ShuttingDown).reason(), Reason::ShuttingDown);
    }
}
