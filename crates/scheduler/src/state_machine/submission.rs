//! A job comes, leaves, or expires.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Effects, Machine};
use crate::{
    error::{JobError, Refused},
    ids::{FlightId, ImageSlot, JobId},
    job::{ClientId, ImageKey, Priority, Stage},
    planning::admission::{self, Newcomer},
    state::{
        engine_slot::Phase,
        pending_job::{Flight, Waiter},
    },
};

/// What the machine must know of a job.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Whom it is counted to.
    pub client: ClientId,
    /// Its class.
    pub priority: Priority,
    /// The client's weight.
    pub weight: u32,
    /// When its answer is worthless.
    pub deadline: Option<Instant>,
    /// Identity of its image.
    pub image: ImageKey,
    /// What the image takes in memory, in bytes.
    pub image_bytes: usize,
    /// Identity of its question and options.
    pub question_key: [u8; 32],
    /// Length of the question in tokens.
    pub tokens: u32,
}

impl<I, Q, W> Machine<I, Q, W> {
    /// Takes a job or refuses it.
    ///
    /// # Errors
    /// See [`Refused`]. Nothing has changed then.
    pub fn submit(
        &mut self,
        now: Instant,
        spec: &JobSpec,
        image: Arc<I>,
        question: Arc<Q>,
        token: W,
        effects: &mut Effects<W>,
    ) -> Result<JobId, Refused> {
        let joins = self
            .images
            .find(&spec.image)
            .and_then(|slot| self.by_question.get(&(slot, spec.question_key)).copied());
        if let Err(refused) = self.admit(now, spec, joins.is_some()) {
            self.telemetry.refused(&refused);
            return Err(refused);
        }
        self.telemetry.admitted(spec.priority);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let waiter = Waiter {
            sequence,
            client: spec.client,
            class: spec.priority,
            weight: spec.weight,
            deadline: spec.deadline,
            submitted: now,
            token,
        };
        let flight = match joins {
            Some(flight) => {
                self.telemetry.shared.increment(1);
                self.join(flight, waiter);
                flight
            }
            None => self.take_off(spec, waiter, image, question, effects),
        };
        self.jobs += 1;
        *self.clients.entry(spec.client).or_default() += 1;
        if let Some(deadline) = spec.deadline {
            effects.rearm |= self.deadlines.first().is_none_or(|(first, ..)| deadline < *first);
            self.deadlines.insert((deadline, sequence, flight));
        }
        Ok(JobId { sequence, flight })
    }

    fn admit(&self, now: Instant, spec: &JobSpec, joins: bool) -> Result<(), Refused> {
        if let Some(error) = &self.dead {
            return Err(Refused::EngineDead(error.clone()));
        }
        if self.closing {
            return Err(Refused::ShuttingDown);
        }
        if spec.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refused::TooLate { retry_after: Duration::ZERO });
        }
        let limits = self.config.queue;
        if self.jobs >= limits.max_jobs {
            return Err(Refused::QueueFull { limit: limits.max_jobs, retry_after: self.room_after(now) });
        }
        if self.clients.get(&spec.client).is_some_and(|jobs| *jobs >= limits.max_jobs_per_client) {
            let limit = limits.max_jobs_per_client;
            return Err(Refused::ClientShare { limit, retry_after: self.room_after(now) });
        }
        let bytes =
            self.images.bytes().saturating_add(self.images.added_bytes(&spec.image, spec.image_bytes));
        if bytes > limits.max_bytes {
            return Err(Refused::BytesFull { limit: limits.max_bytes, retry_after: self.room_after(now) });
        }
        if joins { Ok(()) } else { self.admit_by_deadline(now, spec) }
    }

    fn admit_by_deadline(&self, now: Instant, spec: &JobSpec) -> Result<(), Refused> {
        let Some(deadline) = spec.deadline else { return Ok(()) };
        // An engine without work may as well try: it is also how a wrong model is corrected.
        let idle = self.jobs == 0;
        if idle || !self.config.refuse_too_late || !self.model.is_believed() {
            return Ok(());
        }
        let slot = self.images.find(&spec.image);
        let newcomer = Newcomer {
            class: spec.priority,
            own: self.fair.client_len(spec.priority, spec.client),
            encodes: slot.is_none_or(|slot| {
                self.images.warm(slot).is_empty() && self.images.waiting(slot).next().is_none()
            }),
        };
        let answered = now + self.load(now).time_to_answer(&self.model, &newcomer);
        if answered > deadline {
            return Err(Refused::TooLate { retry_after: admission::retry_after(answered, deadline) });
        }
        Ok(())
    }

    /// When the first jobs will have left: after the batches that run, or after the next one.
    fn room_after(&self, now: Instant) -> Duration {
        if !self.model.is_believed() {
            return Duration::from_secs(1);
        }
        let limits = self.config.batch;
        let batch =
            self.model.predict(limits.max_images.min(self.images.cold_waiting()), limits.max_questions);
        let running = self.engines.iter().filter(|engine| engine.phase == Phase::Running);
        let until_free = running.filter_map(|engine| engine.remaining(now)).min();
        until_free.unwrap_or(batch).max(Duration::from_millis(1))
    }

    /// One more waits for a flight that exists.
    fn join(&mut self, id: FlightId, waiter: Waiter<W>) {
        let Some(flight) = self.flights.get_mut(id.0 as usize) else { return };
        flight.shared = true;
        flight.waiters.push(waiter);
        self.put_in_place(id);
    }

    /// A new flight enters the queue.
    fn take_off(
        &mut self,
        spec: &JobSpec,
        waiter: Waiter<W>,
        image: Arc<I>,
        question: Arc<Q>,
        effects: &mut Effects<W>,
    ) -> FlightId {
        let slot = self.images.hold(spec.image, image, spec.image_bytes);
        let place = waiter.place(self.config.patience);
        let id = FlightId(self.flights.insert(Flight {
            image: slot,
            question,
            question_key: spec.question_key,
            tokens: spec.tokens,
            stage: Stage::Queued,
            place,
            waiters: vec![waiter],
            shared: false,
        }) as u32);
        self.by_question.insert((slot, spec.question_key), id);
        self.fair.insert(&place, id, spec.tokens);
        self.images.start_waiting(slot, place.class, place.sequence, id);
        self.wake_for(slot, effects);
        id
    }

    /// Wakes the engine that should look at a new job: an idle one that has the image, else any idle one.
    fn wake_for(&mut self, slot: ImageSlot, effects: &mut Effects<W>) {
        let warm = self.images.warm(slot);
        let idle =
            |engine: &usize| self.engines.get(*engine).is_some_and(|engine| engine.phase == Phase::Idle);
        let chosen = warm.iter().find(idle).or_else(|| (0..self.engines.len()).find(idle));
        self.call(chosen, effects);
    }

    pub(super) fn call(&mut self, engine: Option<usize>, effects: &mut Effects<W>) {
        if let Some(index) = engine
            && let Some(engine) = self.engines.get_mut(index)
        {
            engine.phase = Phase::Called;
            effects.wake.push(index);
        }
    }

    /// Takes a job back. Its token is given back to be dropped where no lock is held.
    pub fn cancel(&mut self, job: JobId) -> Option<W> {
        let stage = self.flights.get(job.flight.0 as usize)?.stage;
        let waiter = self.take_waiter(job.flight, job.sequence)?;
        self.telemetry.cancelled(stage);
        Some(waiter.token)
    }

    /// Answers everything whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects<W>) {
        while let Some(&(deadline, sequence, flight)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(stage) = self.flights.get(flight.0 as usize).map(|flight| flight.stage) else {
                continue;
            };
            if let Some(waiter) = self.take_waiter(flight, sequence) {
                self.telemetry.expired(stage);
                effects.failed.push((waiter.token, JobError::DeadlineExceeded));
            }
        }
    }

    /// Takes one waiter off a flight; the flight ends with its last one.
    fn take_waiter(&mut self, id: FlightId, sequence: u64) -> Option<Waiter<W>> {
        let flight = self.flights.get_mut(id.0 as usize)?;
        let index = flight.waiters.iter().position(|waiter| waiter.sequence == sequence)?;
        let waiter = flight.waiters.swap_remove(index);
        let is_last = flight.waiters.is_empty();
        self.settle(id, &waiter);
        if is_last {
            self.land(id);
        } else {
            self.put_in_place(id);
        }
        Some(waiter)
    }

    /// A job has its outcome: it no longer counts.
    pub(super) fn settle(&mut self, flight: FlightId, waiter: &Waiter<W>) {
        if let Some(deadline) = waiter.deadline {
            self.deadlines.remove(&(deadline, waiter.sequence, flight));
        }
        self.jobs -= 1;
        if let Some(jobs) = self.clients.get_mut(&waiter.client) {
            *jobs -= 1;
            if *jobs == 0 {
                self.clients.remove(&waiter.client);
            }
        }
    }

    /// Takes a flight out of every table, whatever its stage. Gives back those who still wait for it.
    pub(super) fn land(&mut self, id: FlightId) -> Vec<Waiter<W>> {
        self.leave_queue(id);
        let Some(flight) = self.flights.try_remove(id.0 as usize) else { return Vec::new() };
        if let Stage::Running { engine, row } = flight.stage
            && let Some(batch) = self.engines.get_mut(engine).and_then(|engine| engine.running.as_mut())
            && batch.rows.get_mut(row).and_then(Option::take).is_some()
        {
            self.rows_abandoned += 1;
        }
        self.by_question.remove(&(flight.image, flight.question_key));
        drop(self.images.release(flight.image));
        flight.waiters
    }

    /// Takes a flight out of whatever it waits in.
    pub(super) fn leave_queue(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get(id.0 as usize) else { return };
        match flight.stage {
            Stage::Queued => {
                self.fair.remove(&flight.place);
                self.images.stop_waiting(flight.image, flight.place.class, flight.place.sequence, id);
            }
            Stage::Hopeless => drop(self.hopeless.remove(&(flight.place.due, id))),
            Stage::Retry => self.bisection.remove(id),
            Stage::Running { .. } => {}
        }
    }

    /// Moves a flight to the best place that its waiters have now.
    fn put_in_place(&mut self, id: FlightId) {
        let patience = self.config.patience;
        let Some(flight) = self.flights.get(id.0 as usize) else { return };
        let Some(best) = flight.best_place(patience) else { return };
        let stays = match flight.stage {
            Stage::Queued => best == flight.place,
            Stage::Hopeless => false,
            Stage::Retry | Stage::Running { .. } => true,
        };
        if stays {
            return;
        }
        self.leave_queue(id);
        let Some(flight) = self.flights.get_mut(id.0 as usize) else { return };
        flight.place = best;
        // Whoever joined may have the time that the others had not.
        flight.stage = Stage::Queued;
        self.fair.insert(&best, id, flight.tokens);
        self.images.start_waiting(flight.image, best.class, best.sequence, id);
    }
}
