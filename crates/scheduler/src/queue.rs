//! The simplest correct queue: first come, first served, an image of a batch held once.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::SchedulerConfig;
use crate::engine::EngineError;
use crate::error::Refused;
use crate::job::{ClientId, ImageKey};
use crate::ticket::JobId;

/// What the queue must know of a job; the payload is opaque to it.
#[derive(Clone, Debug)]
pub(crate) struct JobSpec {
    pub(crate) client: ClientId,
    pub(crate) deadline: Option<Instant>,
    pub(crate) image: ImageKey,
    pub(crate) image_bytes: usize,
    pub(crate) tokens: u32,
}

/// A job that waits.
#[derive(Debug)]
pub(crate) struct Waiting<P, W> {
    pub(crate) id: JobId,
    pub(crate) spec: JobSpec,
    pub(crate) payload: P,
    pub(crate) waiter: W,
    pub(crate) submitted: Instant,
}

#[derive(Debug)]
pub(crate) struct Queue<P, W> {
    config: SchedulerConfig,
    waiting: VecDeque<Waiting<P, W>>,
    bytes: usize,
    next_id: u64,
    closed: bool,
    dead: Option<EngineError>,
}

impl<P, W> Queue<P, W> {
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        Self { config, waiting: VecDeque::new(), bytes: 0, next_id: 0, closed: false, dead: None }
    }

    pub(crate) fn submit(
        &mut self,
        now: Instant,
        spec: JobSpec,
        payload: P,
        waiter: W,
    ) -> Result<JobId, Refused> {
        self.admit(now, &spec)?;
        let id = JobId(self.next_id);
        self.next_id += 1;
        self.bytes += spec.image_bytes;
        self.waiting.push_back(Waiting { id, spec, payload, waiter, submitted: now });
        Ok(id)
    }

    fn admit(&self, now: Instant, spec: &JobSpec) -> Result<(), Refused> {
        let limits = self.config.queue;
        let retry_after = Duration::from_secs(1);
        if let Some(error) = &self.dead {
            return Err(Refused::EngineDead(error.clone()));
        }
        if self.closed {
            return Err(Refused::ShuttingDown);
        }
        if spec.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refused::TooLate { retry_after: Duration::ZERO });
        }
        if self.waiting.len() >= limits.max_jobs {
            return Err(Refused::QueueFull { limit: limits.max_jobs, retry_after });
        }
        if self.bytes + spec.image_bytes > limits.max_bytes {
            return Err(Refused::BytesFull { limit: limits.max_bytes, retry_after });
        }
        let own = self.waiting.iter().filter(|waiting| waiting.spec.client == spec.client).count();
        if own >= limits.max_jobs_per_client {
            return Err(Refused::ClientShare { limit: limits.max_jobs_per_client, retry_after });
        }
        Ok(())
    }

    pub(crate) fn cancel(&mut self, id: JobId) -> Option<Waiting<P, W>> {
        let at = self.waiting.iter().position(|waiting| waiting.id == id)?;
        let waiting = self.waiting.remove(at)?;
        self.bytes -= waiting.spec.image_bytes;
        Some(waiting)
    }

    /// The jobs whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Waiting<P, W>> {
        let late: Vec<JobId> = self
            .waiting
            .iter()
            .filter(|waiting| waiting.spec.deadline.is_some_and(|deadline| deadline <= now))
            .map(|waiting| waiting.id)
            .collect();
        late.into_iter().filter_map(|id| self.cancel(id)).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|waiting| waiting.spec.deadline).min()
    }

    /// The next batch: from the front, as far as the limits allow.
    pub(crate) fn next_batch(&mut self) -> Vec<Waiting<P, W>> {
        let limits = self.config.batch;
        let mut images: Vec<ImageKey> = Vec::new();
        let mut batch = Vec::new();
        let mut longest = 0;
        while let Some(head) = self.waiting.front() {
            let new_image = !images.contains(&head.spec.image);
            let longer = longest.max(head.spec.tokens as usize);
            let fits = images.len() + usize::from(new_image) <= limits.max_images
                && batch.len() < limits.max_questions
                && longer * (batch.len() + 1) <= limits.max_padded_tokens;
            if !batch.is_empty() && !fits {
                break;
            }
            if new_image {
                images.push(head.spec.image);
            }
            longest = longer;
            if let Some(waiting) = self.waiting.pop_front() {
                self.bytes -= waiting.spec.image_bytes;
                batch.push(waiting);
            }
        }
        batch
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes no more work and gives back all that waits.
    pub(crate) fn declare_dead(&mut self, error: EngineError) -> Vec<Waiting<P, W>> {
        self.dead = Some(error);
        self.bytes = 0;
        self.waiting.drain(..).collect()
    }
}
