//! The scheduler as a pure state machine, without threads and without a clock.
//!
//! Each event is a method call with its time. The runtime calls it with tokio's clock, the
//! simulator and the tests with their simulated clocks. The caller carries out the returned
//! [`Effects`].
//!
//! - [`submission`]: a job arrives, is cancelled, or expires.
//! - [`execution`]: an engine asks for a batch and reports on it.
//! - [`failure`]: a batch ends, or an engine dies.

mod execution;
mod failure;
mod submission;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::{
    config::SchedulerConfig,
    cost::{CostModel, DecodeLimit, JobCost},
    engine::EngineError,
    engine_state::EngineState,
    error::JobError,
    ids::{ImageSlot, JobIndex},
    metrics::SchedulerMetrics,
    planning::{admission::Load, policy::PolicyInput},
    queue::{FairQueue, contention::Contention},
    snapshot::{EngineSnapshot, Snapshot},
    state::{
        bisection::Bisection,
        client_holdings::ClientHoldings,
        engine_slot::{EnginePhase, EngineSlot},
        image_index::ImageIndex,
        pending_job::PendingJob,
    },
};

pub use execution::{FinishedJob, JobStats};
pub use submission::JobSpec;

/// Maximum number of engines of a state machine.
pub const MAX_ENGINES: usize = 64;

/// What the caller has to do after an event.
#[derive(Debug)]
pub struct Effects<W> {
    /// Submissions that failed, with their errors.
    pub failed: Vec<(W, JobError)>,
    /// Waiting engines that should call [`StateMachine::next_batch`].
    pub wake: Vec<usize>,
    /// Whether [`StateMachine::next_timer`] may have changed.
    pub rearm_timer: bool,
}

impl<W> Default for Effects<W> {
    fn default() -> Self {
        Self { failed: Vec::new(), wake: Vec::new(), rearm_timer: false }
    }
}

impl<W> Effects<W> {
    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.wake.is_empty() && !self.rearm_timer
    }
}

/// The complete state of a scheduler.
///
/// `I` and `Q` are the payloads of images and questions. `W` is the token of a submission, which
/// the state machine returns with the outcome.
#[derive(Debug)]
pub struct StateMachine<I, Q, W> {
    config: SchedulerConfig,
    pending: Slab<PendingJob<std::sync::Arc<Q>, W>>,
    by_question: HashMap<(ImageSlot, [u8; 32]), JobIndex>,
    queue: FairQueue,
    images: ImageIndex<I>,
    infeasible: BTreeSet<(Instant, JobIndex)>,
    bisection: Bisection,
    /// Whether the last batch was a bisected part. The next batch is then an ordinary one.
    bisected_last: bool,
    deadlines: BTreeSet<(Instant, u64, JobIndex)>,
    engines: Vec<EngineSlot>,
    model: CostModel,
    job_cost: JobCost,
    decode_limit: DecodeLimit,
    contention: Contention,
    clients: ClientHoldings,
    /// Accepted jobs that are not settled.
    open_jobs: usize,
    answered: u64,
    failed_batches: u64,
    next_sequence: u64,
    /// Count of running rows that lost their last waiter.
    rows_abandoned: u64,
    is_closing: bool,
    dead: Option<EngineError>,
    metrics: SchedulerMetrics,
}

impl<I, Q, W> StateMachine<I, Q, W> {
    /// Creates a state machine. All engines are expected to ask for a batch soon.
    pub fn new(config: SchedulerConfig, engines: usize) -> Self {
        let engines = engines.min(MAX_ENGINES);
        let metrics = SchedulerMetrics::new(&config.labels);
        let model = CostModel::new(config.cost_prior);
        let mut queue = FairQueue::default();
        let job_cost = JobCost::from_model(&model, config.batch);
        queue.set_credit(job_cost.of_request());
        Self {
            pending: Slab::new(),
            by_question: HashMap::new(),
            queue,
            images: ImageIndex::new(engines, config.engines_share_features),
            infeasible: BTreeSet::new(),
            bisection: Bisection::default(),
            bisected_last: false,
            deadlines: BTreeSet::new(),
            engines: (0..engines).map(|_| EngineSlot::new(config.batch)).collect(),
            model,
            job_cost,
            decode_limit: DecodeLimit::default(),
            contention: Contention::default(),
            clients: ClientHoldings::default(),
            open_jobs: 0,
            answered: 0,
            failed_batches: 0,
            next_sequence: 0,
            rows_abandoned: 0,
            is_closing: false,
            dead: None,
            config,
            metrics,
        }
    }

    fn view(&self, now: Instant) -> PolicyInput<'_, I, std::sync::Arc<Q>, W> {
        let is_shared = self.contention.is_contended(now);
        PolicyInput {
            pending: &self.pending,
            images: &self.images,
            queue: &self.queue,
            infeasible: &self.infeasible,
            engines: &self.engines,
            model: &self.model,
            job_cost: self.job_cost,
            max_decode_steps: if is_shared { self.decode_limit.steps() } else { u64::MAX },
            config: &self.config,
        }
    }

    fn load(&self, now: Instant) -> Load {
        let alive = self.engines.iter().filter(|engine| engine.is_alive());
        let until_free = alive.clone().filter_map(|engine| engine.remaining(now)).min();
        Load {
            classes: self.queue.lengths(),
            cold_images: self.images.cold_waiting(),
            engines: alive.count(),
            until_free: until_free.unwrap_or_default(),
            limits: self.config.batch,
            overhead_fraction: self.config.overhead_fraction,
        }
    }

    /// Returns whether no pending job waits for a batch.
    fn is_queue_empty(&self) -> bool {
        self.queue.len() == 0 && self.infeasible.is_empty() && self.bisection.is_empty()
    }

    /// Rejects further jobs. Engines stop when no work is left.
    pub fn close(&mut self, effects: &mut Effects<W>) {
        self.is_closing = true;
        effects.wake.extend(0..self.engines.len());
        effects.rearm_timer = true;
    }

    /// Returns whether an engine without work should stop.
    pub fn is_finished(&self) -> bool {
        self.is_closing && self.is_queue_empty()
    }

    /// Returns whether the scheduler is closed and every job is settled.
    pub fn is_drained(&self) -> bool {
        self.is_closing && self.open_jobs == 0
    }

    /// Returns when [`tick`](Self::tick) must be called next.
    pub fn next_timer(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, ..)| *deadline);
        let hold = self.engines.iter().filter_map(|engine| engine.hold_until).min();
        let stall = self
            .engines
            .iter()
            .filter(|engine| !engine.is_stalled)
            .filter_map(|engine| Some(engine.running.as_ref()?.started + self.config.stall_after))
            .min();
        [deadline, hold, stall].into_iter().flatten().min()
    }

    /// Expires jobs, wakes engines whose wait for a fuller batch ends, and detects stalled engines.
    pub fn tick(&mut self, now: Instant, effects: &mut Effects<W>) {
        self.expire(now, effects);
        for (index, engine) in self.engines.iter_mut().enumerate() {
            if engine.hold_until.is_some_and(|until| until <= now) {
                engine.hold_until = None;
                if engine.phase == EnginePhase::Idle {
                    engine.phase = EnginePhase::Notified;
                    effects.wake.push(index);
                }
            }
            let stall_after = self.config.stall_after;
            engine.is_stalled =
                engine.running.as_ref().is_some_and(|batch| now >= batch.started + stall_after);
        }
    }

    /// Returns whether an engine can work.
    pub fn is_alive(&self, engine: usize) -> bool {
        self.engines.get(engine).is_some_and(EngineSlot::is_alive)
    }

    /// Returns the combined state of the engines.
    pub fn engine_state(&self) -> EngineState {
        if let Some(error) = &self.dead {
            return EngineState::Dead(error.clone());
        }
        let total = self.engines.len();
        let alive = self.engines.iter().filter(|engine| engine.is_alive()).count();
        if self.engines.iter().any(|engine| engine.is_stalled) {
            EngineState::Stalled
        } else if alive < total {
            EngineState::Degraded { alive, total }
        } else {
            EngineState::Ready
        }
    }

    /// Returns a count that grows when a running row is abandoned. While it is constant, no row has
    /// to be checked.
    pub const fn rows_abandoned(&self) -> u64 {
        self.rows_abandoned
    }

    /// Returns the cost model.
    pub const fn model(&self) -> &CostModel {
        &self.model
    }

    /// Returns the current state for reports and tests.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let [(high, _), (normal, _), (low, _)] = self.queue.lengths();
        Snapshot {
            jobs: self.open_jobs,
            job_limit: self.config.queue.max_jobs,
            answered: self.answered,
            failed_batches: self.failed_batches,
            queued: [high, normal, low],
            infeasible: self.infeasible.len(),
            to_retry: self.bisection.rows(),
            clients: self.clients.len(),
            image_bytes: self.images.bytes(),
            images: self.images.len(),
            coefficients: self.model.coefficients(),
            batches_observed: self.model.observations(),
            is_closing: self.is_closing,
            engines: self
                .engines
                .iter()
                .map(|engine| EngineSnapshot {
                    is_alive: engine.is_alive(),
                    limits: engine.limit.get(),
                    rows: engine.running.as_ref().map_or(0, |batch| batch.rows.len()),
                    rows_left: engine.running.as_ref().map_or(0, |batch| batch.rows.iter().flatten().count()),
                    running_for: engine
                        .running
                        .as_ref()
                        .map(|batch| now.saturating_duration_since(batch.started))
                        .unwrap_or(Duration::ZERO),
                })
                .collect(),
        }
    }
}
