//! What the scheduler and the engine say, in the words of the error table.

use std::time::Duration;

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
