//! Whether a job gets a place in the queue: limits of all clients together, and each client's share
//! of them ([`Room`]).

use std::time::Duration;

use super::allowance::Room;
use crate::{error::SubmitError, limits::QueueLimits, state::client_holdings::Holding};

/// The queue, as far as the limits need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueRoom {
    pub(crate) limits: QueueLimits,
    /// Waiting and running jobs.
    pub(crate) jobs: usize,
    /// Image bytes of these jobs.
    pub(crate) bytes: usize,
}

impl QueueRoom {
    /// Checks whether a client of this weight may add a job, whose image adds `more_bytes`.
    ///
    /// # Errors
    /// A [`SubmitError`] with the time that `retry_after` returns.
    pub(crate) fn admit(
        &self,
        weight: u32,
        client: Holding,
        more_bytes: usize,
        retry_after: impl FnOnce() -> Duration,
    ) -> Result<(), SubmitError> {
        let QueueLimits { max_jobs, max_bytes, max_jobs_per_client } = self.limits;
        let places = Room { capacity: max_jobs, free: max_jobs.saturating_sub(self.jobs) };
        if places.free == 0 {
            return Err(SubmitError::QueueFull {
                held: self.jobs,
                limit: max_jobs,
                retry_after: retry_after(),
            });
        }
        if client.jobs >= max_jobs_per_client || !places.admits(weight, client.jobs, 1) {
            return Err(SubmitError::ClientShare {
                held: client.jobs,
                limit: places.allowance(weight, client.jobs).min(max_jobs_per_client),
                retry_after: retry_after(),
            });
        }
        let memory = Room { capacity: max_bytes, free: max_bytes.saturating_sub(self.bytes) };
        if more_bytes > 0 && !memory.admits(weight, client.bytes, more_bytes) {
            return Err(SubmitError::BytesFull {
                held: client.bytes,
                limit: memory.allowance(weight, client.bytes),
                retry_after: retry_after(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: QueueRoom = QueueRoom {
        limits: QueueLimits { max_jobs: 900, max_bytes: 9000, max_jobs_per_client: 900 },
        jobs: 0,
        bytes: 0,
    };

    fn admit(room: QueueRoom, jobs: usize, bytes: usize, more_bytes: usize) -> Result<(), SubmitError> {
        room.admit(1, Holding { jobs, bytes }, more_bytes, || Duration::ZERO)
    }

    #[test]
    fn client_alone_gets_eight_ninths_of_places_and_bytes() {
        assert_eq!(admit(QueueRoom { jobs: 799, ..ROOM }, 799, 0, 0), Ok(()));
        assert_eq!(
            admit(QueueRoom { jobs: 800, ..ROOM }, 800, 0, 0).unwrap_err().to_string(),
            "client's share of the queue is full: 800 jobs held, 800 allowed"
        );
        assert_eq!(admit(QueueRoom { bytes: 7000, ..ROOM }, 1, 7000, 1000), Ok(()));
        assert_eq!(
            admit(QueueRoom { bytes: 7000, ..ROOM }, 1, 7000, 1001).unwrap_err().to_string(),
            "image memory of the queue is full: 7000 bytes held by the client, 8000 allowed"
        );
    }

    #[test]
    fn new_client_gets_the_last_place_and_none_beyond_it() {
        assert_eq!(admit(QueueRoom { jobs: 899, ..ROOM }, 0, 0, 0), Ok(()));
        assert_eq!(
            admit(QueueRoom { jobs: 900, ..ROOM }, 0, 0, 0).unwrap_err().to_string(),
            "queue is full: 900 jobs held, 900 allowed"
        );
    }
}
