//! Errors of the scheduler and the engine as errors of an item.

use std::time::Duration;

use scheduler::{EngineError, EngineErrorKind, JobError, SubmitError};

use crate::error::{ErrorReason, RequestError};

/// When a client may retry after the device ran out of memory. Some batches later, memory may be
/// free.
const RETRY_AFTER_OUT_OF_MEMORY: Duration = Duration::from_secs(1);

/// Returns the error of a job that the scheduler rejected.
#[must_use]
pub fn submit_error(error: &SubmitError) -> RequestError {
    let request_error = match error {
        SubmitError::QueueFull { .. } | SubmitError::BytesFull { .. } | SubmitError::ClientShare { .. } => {
            RequestError::new(ErrorReason::QueueFull).cause(error)
        }
        SubmitError::TooLate { .. } => RequestError::new(ErrorReason::DeadlineUnreachable),
        SubmitError::ShuttingDown => RequestError::new(ErrorReason::ShuttingDown),
        SubmitError::EngineDead(cause) => RequestError::new(ErrorReason::EngineBroken).cause(cause),
    };
    match error.retry_after() {
        Some(wait) => request_error.retry_after(wait),
        None => request_error,
    }
}

/// Returns the error of a job that failed.
#[must_use]
pub fn job_error(error: &JobError) -> RequestError {
    match error {
        JobError::DeadlineExceeded => RequestError::new(ErrorReason::DeadlineExceeded),
        JobError::ShuttingDown => RequestError::new(ErrorReason::ShuttingDown),
        JobError::Engine(error) => row_error(error),
    }
}

fn row_error(error: &EngineError) -> RequestError {
    match error.kind {
        EngineErrorKind::Row => RequestError::new(ErrorReason::EngineRefused).cause(error),
        EngineErrorKind::Batch => RequestError::new(ErrorReason::EngineFailed).cause(error),
        EngineErrorKind::OutOfMemory => RequestError::new(ErrorReason::EngineOutOfMemory)
            .cause(error)
            .retry_after(RETRY_AFTER_OUT_OF_MEMORY),
        EngineErrorKind::Fatal => RequestError::new(ErrorReason::EngineBroken).cause(error),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn full_queue_has_a_retry_delay() {
        let wait = Duration::from_millis(40);
        for error in [
            SubmitError::QueueFull { held: 9, limit: 9, retry_after: wait },
            SubmitError::BytesFull { held: 9, limit: 9, retry_after: wait },
            SubmitError::ClientShare { held: 9, limit: 9, retry_after: wait },
            SubmitError::TooLate { retry_after: wait },
        ] {
            let status = submit_error(&error).to_status();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(wait), "{error}");
        }
    }

    #[test]
    fn each_engine_error_has_its_reason() {
        let reason = |kind| job_error(&JobError::Engine(EngineError::new(kind, "boom"))).reason();
        assert_eq!(reason(EngineErrorKind::Row), ErrorReason::EngineRefused);
        assert_eq!(reason(EngineErrorKind::Batch), ErrorReason::EngineFailed);
        assert_eq!(reason(EngineErrorKind::OutOfMemory), ErrorReason::EngineOutOfMemory);
        assert_eq!(reason(EngineErrorKind::Fatal), ErrorReason::EngineBroken);
        assert_eq!(job_error(&JobError::DeadlineExceeded).reason(), ErrorReason::DeadlineExceeded);
        assert_eq!(job_error(&JobError::ShuttingDown).reason(), ErrorReason::ShuttingDown);
    }
}
