//! The scheduler without threads and without a clock: every event is a call that says when it happens.
//!
//! [`Scheduler`](crate::Scheduler) drives it from engine threads and tokio's clock; the simulator and
//! the property tests drive it from theirs. What the outside has to do in consequence (answer
//! somebody, wake an engine, set the timer anew) is written down in [`Effects`].
//!
//! - [`submission`]: a job comes, leaves, expires;
//! - [`execution`]: an engine asks for a batch and reports on it;
//! - [`failure`]: batches that fail, engines that die.

mod execution;
mod failure;
mod submission;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::{
    config::SchedulerConfig,
    cost::{ServiceModel, TurnPrice},
    engine::EngineError,
    engine_state::EngineState,
    error::JobError,
    ids::{FlightId, ImageSlot},
    job::ClientId,
    metrics::Telemetry,
    planning::{admission::Load, policy::View},
    queue::FairQueue,
    snapshot::{EngineSnapshot, Snapshot},
    state::{
        bisection::Bisection,
        engine_slot::{EngineSlot, Phase},
        image_index::ImageIndex,
        pending_job::Flight,
    },
};

pub use execution::{Answered, Ledger};
pub use submission::JobSpec;

/// Engines a machine can have.
pub const MAX_ENGINES: usize = 64;

/// What the outside has to do after an event.
#[derive(Debug)]
pub struct Effects<W> {
    /// Those who get no answer, and why.
    pub failed: Vec<(W, JobError)>,
    /// Engines that wait and should ask for a batch.
    pub wake: Vec<usize>,
    /// [`Machine::next_timer`] may have moved.
    pub rearm: bool,
}

impl<W> Default for Effects<W> {
    fn default() -> Self {
        Self { failed: Vec::new(), wake: Vec::new(), rearm: false }
    }
}

impl<W> Effects<W> {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.wake.is_empty() && !self.rearm
    }
}

/// Everything the scheduler knows.
///
/// `I` and `Q` are images and questions, opaque here; `W` stands for one who waits for an answer.
#[derive(Debug)]
pub struct Machine<I, Q, W> {
    config: SchedulerConfig,
    flights: Slab<Flight<std::sync::Arc<Q>, W>>,
    by_question: HashMap<(ImageSlot, [u8; 32]), FlightId>,
    fair: FairQueue,
    images: ImageIndex<I>,
    hopeless: BTreeSet<(Instant, FlightId)>,
    bisection: Bisection,
    /// The last batch was a part of a failed one: it is the others' turn.
    bisected_last: bool,
    deadlines: BTreeSet<(Instant, u64, FlightId)>,
    engines: Vec<EngineSlot>,
    model: ServiceModel,
    price: TurnPrice,
    clients: HashMap<ClientId, usize>,
    /// Jobs taken and not settled.
    jobs: usize,
    answered: u64,
    failed_batches: u64,
    next_sequence: u64,
    /// Grows whenever a row that runs loses the last who waited for it.
    rows_abandoned: u64,
    closing: bool,
    dead: Option<EngineError>,
    telemetry: Telemetry,
}

impl<I, Q, W> Machine<I, Q, W> {
    /// A machine with so many engines, all of which are expected to ask for a batch soon.
    pub fn new(config: SchedulerConfig, engines: usize) -> Self {
        let engines = engines.min(MAX_ENGINES);
        let telemetry = Telemetry::new(&config.labels);
        let model = ServiceModel::new(config.service_prior);
        let mut fair = FairQueue::default();
        let price = TurnPrice::fitted(&model, config.batch);
        fair.set_credit(price.request());
        Self {
            flights: Slab::new(),
            by_question: HashMap::new(),
            fair,
            images: ImageIndex::new(engines, config.engines_share_features),
            hopeless: BTreeSet::new(),
            bisection: Bisection::default(),
            bisected_last: false,
            deadlines: BTreeSet::new(),
            engines: (0..engines).map(|_| EngineSlot::new(config.batch)).collect(),
            model,
            price,
            clients: HashMap::new(),
            jobs: 0,
            answered: 0,
            failed_batches: 0,
            next_sequence: 0,
            rows_abandoned: 0,
            closing: false,
            dead: None,
            config,
            telemetry,
        }
    }

    fn view(&self) -> View<'_, I, std::sync::Arc<Q>, W> {
        View {
            flights: &self.flights,
            images: &self.images,
            fair: &self.fair,
            hopeless: &self.hopeless,
            engines: &self.engines,
            model: &self.model,
            price: self.price,
            config: &self.config,
        }
    }

    fn load(&self, now: Instant) -> Load {
        let alive = self.engines.iter().filter(|engine| engine.is_alive());
        let until_free = alive.clone().filter_map(|engine| engine.remaining(now)).min();
        Load {
            classes: self.fair.lengths(),
            cold_images: self.images.cold_waiting(),
            engines: alive.count(),
            until_free: until_free.unwrap_or_default(),
            limits: self.config.batch,
            fixed_share: self.config.fixed_share,
        }
    }

    /// No job waits to be run.
    fn nothing_waits(&self) -> bool {
        self.fair.len() == 0 && self.hopeless.is_empty() && self.bisection.is_empty()
    }

    /// Takes no more jobs; engines end when nothing is left.
    pub fn close(&mut self, effects: &mut Effects<W>) {
        self.closing = true;
        effects.wake.extend(0..self.engines.len());
        effects.rearm = true;
    }

    /// Whether an engine that finds no work should end.
    pub fn is_over(&self) -> bool {
        self.closing && self.nothing_waits()
    }

    /// Whether nothing at all will happen any more.
    pub fn is_drained(&self) -> bool {
        self.closing && self.jobs == 0
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_timer(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, ..)| *deadline);
        let hold = self.engines.iter().filter_map(|engine| engine.hold_until).min();
        let stall = self
            .engines
            .iter()
            .filter(|engine| !engine.stalled)
            .filter_map(|engine| Some(engine.running.as_ref()?.started + self.config.stall_after))
            .min();
        [deadline, hold, stall].into_iter().flatten().min()
    }

    /// Answers what has expired, wakes engines that held a batch back until now, sees stalled ones.
    pub fn tick(&mut self, now: Instant, effects: &mut Effects<W>) {
        self.expire(now, effects);
        for (index, engine) in self.engines.iter_mut().enumerate() {
            if engine.hold_until.is_some_and(|until| until <= now) {
                engine.hold_until = None;
                if engine.phase == Phase::Idle {
                    engine.phase = Phase::Called;
                    effects.wake.push(index);
                }
            }
            let stall_after = self.config.stall_after;
            engine.stalled = engine.running.as_ref().is_some_and(|batch| now >= batch.started + stall_after);
        }
    }

    /// Whether an engine can work.
    pub fn is_alive(&self, engine: usize) -> bool {
        self.engines.get(engine).is_some_and(EngineSlot::is_alive)
    }

    /// Whether the engines can work.
    pub fn health(&self) -> EngineState {
        if let Some(error) = &self.dead {
            return EngineState::Dead(error.clone());
        }
        let total = self.engines.len();
        let alive = self.engines.iter().filter(|engine| engine.is_alive()).count();
        if self.engines.iter().any(|engine| engine.stalled) {
            EngineState::Stalled
        } else if alive < total {
            EngineState::Degraded { alive, total }
        } else {
            EngineState::Ready
        }
    }

    /// Grows whenever a row that runs is abandoned; while it stands still no row has to be looked at.
    pub const fn rows_abandoned(&self) -> u64 {
        self.rows_abandoned
    }

    /// The fitted service model.
    pub const fn model(&self) -> &ServiceModel {
        &self.model
    }

    /// Everything at a glance.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let [(high, _), (normal, _), (low, _)] = self.fair.lengths();
        Snapshot {
            jobs: self.jobs,
            job_limit: self.config.queue.max_jobs,
            answered: self.answered,
            failed_batches: self.failed_batches,
            queued: [high, normal, low],
            hopeless: self.hopeless.len(),
            to_retry: self.bisection.rows(),
            clients: self.clients.len(),
            image_bytes: self.images.bytes(),
            images: self.images.len(),
            coefficients: self.model.coefficients(),
            batches_observed: self.model.observations(),
            closing: self.closing,
            engines: self
                .engines
                .iter()
                .map(|engine| EngineSnapshot {
                    alive: engine.is_alive(),
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
