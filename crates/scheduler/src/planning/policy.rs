//! The batch policy: a pure function from the scheduler's state to the next batch of an engine.
//!
//! A batch is built in three steps, within the limits:
//!
//! 1. *By turn*: jobs in fair order ([`queue`](crate::queue)). A job that does not fit is skipped,
//!    and is first again in the next batch. When a larger batch would save little, only jobs that
//!    would be late in the next batch are added.
//! 2. *Co-batched*: jobs whose image is already in the batch, then jobs whose image the engine has
//!    cached. They must need no further padding.
//! 3. *Deadline fit*: rows that would make an urgent row late are left for the next batch
//!    ([`deadline_fit`](super::deadline_fit)). At most three batches in succession leave out the
//!    job whose turn it is.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::{
    batch_builder::{BatchBuilder, RowCandidate},
    deadline_fit::{self, DeadlineFit},
};
use crate::{
    config::SchedulerConfig,
    cost::{CostModel, JobCost},
    ids::JobIndex,
    queue::{FairQueue, LengthPreference},
    state::{
        engine_slot::{EnginePhase, EngineSlot},
        image_index::ImageIndex,
        pending_job::PendingJob,
    },
};

/// The state that the policy reads.
pub(crate) struct PolicyInput<'a, I, Q, W> {
    pub(crate) pending: &'a Slab<PendingJob<Q, W>>,
    pub(crate) images: &'a ImageIndex<I>,
    pub(crate) queue: &'a FairQueue,
    pub(crate) infeasible: &'a BTreeSet<(Instant, JobIndex)>,
    pub(crate) engines: &'a [EngineSlot],
    pub(crate) model: &'a CostModel,
    pub(crate) job_cost: JobCost,
    /// Steps of all hypotheses of a batch.
    pub(crate) max_decode_steps: u64,
    pub(crate) config: &'a SchedulerConfig,
}

/// The next step of an engine.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct BatchPlan {
    /// Rows of the batch. Empty if the engine has no work now.
    pub(crate) rows: Vec<JobIndex>,
    /// Jobs that cannot meet their deadline, even alone.
    pub(crate) infeasible: Vec<JobIndex>,
    /// When to plan again if no event occurs before.
    pub(crate) hold_until: Option<Instant>,
    /// Whether the job whose turn it is was left out.
    pub(crate) is_head_skipped: bool,
}

/// Consecutive batches that may leave out the job whose turn it is, for deadlines of others.
const MAX_HEAD_SKIPS: u32 = 3;

/// Jobs examined for each row of a full batch.
const LOOK_AHEAD: usize = 4;

/// When to plan again after a job was left to an idle engine. By then that engine has taken it.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Jobs that may fail to fit before the search for co-batched jobs ends.
const MAX_CO_BATCHED_MISSES: usize = 32;

/// Jobs of one image that are compared by length.
const MAX_CO_BATCHED_COMPARED: usize = 128;

enum Eligibility {
    Fits(RowCandidate),
    NoRoom,
    Infeasible,
    /// Another engine has the image, and is free before this one could encode it.
    BetterElsewhere(Instant),
}

impl<I, Q, W> PolicyInput<'_, I, Q, W> {
    /// Returns the batch for a free engine.
    pub(crate) fn plan_batch(&self, engine: usize, now: Instant, is_closing: bool) -> BatchPlan {
        let Some(slot) = self.engines.get(engine) else { return BatchPlan::default() };
        let empty = BatchBuilder::new(self.model, slot.limit.get(), self.max_decode_steps);
        let mut plan = BatchPlan::default();
        let mut excluded = Vec::new();
        let mut head = None;
        for last_round in [false, true] {
            let mut builder = empty.clone();
            plan = BatchPlan::default();
            let free_elsewhere_at = self.add_by_turn(engine, slot, now, &excluded, &mut builder, &mut plan);
            if builder.rows.is_empty() {
                plan.hold_until = free_elsewhere_at;
                if free_elsewhere_at.is_none() {
                    plan.rows.extend(self.probe(plan.infeasible.as_slice()));
                }
                return plan;
            }
            self.add_co_batched(engine, slot, now, &excluded, &mut builder);
            if let Some(until) = self.hold_until(&builder, now)
                && !is_closing
            {
                plan.hold_until = Some(until);
                return plan;
            }
            head = head.or_else(|| builder.rows.first().map(|row| row.job));
            let has_more_jobs = self.queue.len() > builder.rows.len();
            let must_include_head = slot.head_skips >= MAX_HEAD_SKIPS;
            let fit = if self.model.is_calibrated() && !last_round {
                deadline_fit::fit_to_deadlines(builder, &empty, now, must_include_head, has_more_jobs)
            } else {
                DeadlineFit::Run(builder)
            };
            match fit {
                DeadlineFit::Without(late) => excluded = late,
                DeadlineFit::Run(builder) => {
                    plan.is_head_skipped = head.is_some_and(|head| !builder.contains(head));
                    plan.rows = builder.rows.iter().map(|row| row.job).collect();
                    break;
                }
            }
        }
        plan
    }

    /// Adds jobs in fair order. Returns when to plan again, if a job was left to another engine.
    fn add_by_turn(
        &self,
        engine: usize,
        slot: &EngineSlot,
        now: Instant,
        excluded: &[JobIndex],
        builder: &mut BatchBuilder<'_>,
        plan: &mut BatchPlan,
    ) -> Option<Instant> {
        let share = self.config.overhead_fraction;
        let mut free_elsewhere_at: Option<Instant> = None;
        let mut is_enough = false;
        let mut budget = LOOK_AHEAD * slot.limit.get().max_questions + plan.infeasible.len();
        let mut selection = self.queue.select();
        while budget > 0 && !builder.is_full() {
            let preference = LengthPreference { longest: builder.longest(), rows: builder.rows.len(), now };
            let Some(job) = selection.next(preference) else { break };
            budget -= 1;
            if excluded.contains(&job) {
                continue;
            }
            if !builder.has_image_room() {
                // Only jobs with included or cached images fit. Step 2 finds these by image.
                budget = budget.min(slot.limit.get().max_questions / 2);
            }
            match self.eligibility(job, engine, now, builder) {
                Eligibility::Fits(candidate) => {
                    let encodes = builder.encodes(&candidate);
                    if !is_enough
                        && ((encodes && builder.has_enough_images(share))
                            || (!encodes && builder.has_enough_questions(share, slot.reports_cached_images)))
                    {
                        is_enough = true;
                        budget = budget.min(slot.limit.get().max_questions);
                    }
                    // The batch is large enough. Add only jobs that cannot wait for the next one.
                    if is_enough && !builder.is_late_after(&candidate, now) {
                        continue;
                    }
                    selection.charge(self.job_cost.of_job(encodes));
                    builder.push(candidate);
                }
                Eligibility::NoRoom => {}
                Eligibility::Infeasible => {
                    // Infeasible jobs must not use up the look-ahead.
                    budget += 1;
                    plan.infeasible.push(job);
                }
                Eligibility::BetterElsewhere(when) => {
                    free_elsewhere_at = Some(free_elsewhere_at.map_or(when, |other| other.min(when)))
                }
            }
        }
        free_elsewhere_at
    }

    fn eligibility(
        &self,
        job: JobIndex,
        engine: usize,
        now: Instant,
        builder: &BatchBuilder<'_>,
    ) -> Eligibility {
        let Some((candidate, is_feasible)) = self.candidate(job, engine, now) else {
            return Eligibility::NoRoom;
        };
        if !is_feasible {
            return Eligibility::Infeasible;
        }
        if !builder.has_room(&candidate) {
            return Eligibility::NoRoom;
        }
        if builder.encodes(&candidate)
            && let Some(when) = self.sooner_elsewhere(&candidate, engine, now)
        {
            return Eligibility::BetterElsewhere(when);
        }
        Eligibility::Fits(candidate)
    }

    /// Returns the job as a candidate, and whether any of its waiters can be answered in time.
    fn candidate(&self, index: JobIndex, engine: usize, now: Instant) -> Option<(RowCandidate, bool)> {
        let job = self.pending.get(index.0 as usize)?;
        let is_cached = self.images.is_cached(job.image, engine);
        let (first, last) = (job.first_deadline(), job.last_deadline());
        let alone = now + self.model.predict(usize::from(!is_cached), 1);
        let in_time = |deadline: Option<Instant>| deadline.is_none_or(|deadline| alone <= deadline);
        let deadline = if in_time(first) { first } else { last };
        let candidate = RowCandidate {
            job: index,
            image: job.image,
            is_cached,
            tokens: job.tokens as usize,
            decode_steps: job.decode_steps.into(),
            deadline,
        };
        Some((candidate, in_time(last) || !self.model.is_calibrated()))
    }

    /// If another engine has the image and is free before this one could encode it, returns when to
    /// plan again.
    fn sooner_elsewhere(&self, candidate: &RowCandidate, engine: usize, now: Instant) -> Option<Instant> {
        let encode = crate::cost::duration(self.model.coefficients().image);
        self.images
            .warm(candidate.image)
            .iter()
            .filter(|other| *other != engine)
            .filter_map(|other| {
                let slot = self.engines.get(other)?;
                let remaining = slot.remaining(now)?;
                let idle = matches!(slot.phase, EnginePhase::Idle | EnginePhase::Notified);
                // An idle engine takes the job itself. A busy one may be later than predicted.
                let recheck_at =
                    slot.overdue_at().unwrap_or(now + RECHECK_INTERVAL) + Duration::from_millis(1);
                (idle || (self.model.is_calibrated() && remaining <= encode)).then_some(recheck_at)
            })
            .min()
    }

    fn add_co_batched(
        &self,
        engine: usize,
        slot: &EngineSlot,
        now: Instant,
        excluded: &[JobIndex],
        builder: &mut BatchBuilder<'_>,
    ) {
        let in_batch = builder.images().to_vec();
        let mut misses = 0;
        let images = in_batch.into_iter().chain(self.images.ready(engine));
        for image in images {
            let mut fitting = Vec::new();
            for job in self.images.waiting(image) {
                if builder.is_full()
                    || builder.has_enough_questions(self.config.overhead_fraction, slot.reports_cached_images)
                {
                    return;
                }
                if builder.contains(job) || excluded.contains(&job) {
                    continue;
                }
                let Some((candidate, is_feasible)) = self.candidate(job, engine, now) else { continue };
                let needs_nothing = !builder.encodes(&candidate) && candidate.tokens <= builder.longest();
                if is_feasible && needs_nothing && builder.has_room(&candidate) {
                    fitting.push(candidate);
                } else {
                    misses += 1;
                }
                if misses > MAX_CO_BATCHED_MISSES || fitting.len() >= MAX_CO_BATCHED_COMPARED {
                    break;
                }
            }
            // In each class, take the longest first: they need the least padding.
            if !builder.has_rows_for(fitting.len()) {
                let class = |job: JobIndex| self.pending.get(job.0 as usize).map(|job| job.position.class);
                fitting.sort_by_key(|candidate| (class(candidate.job), Reverse(candidate.tokens)));
            }
            for candidate in fitting {
                if builder.is_full()
                    || builder.has_enough_questions(self.config.overhead_fraction, slot.reports_cached_images)
                {
                    return;
                }
                if builder.has_room(&candidate) {
                    builder.push(candidate);
                }
            }
            if misses > MAX_CO_BATCHED_MISSES {
                return;
            }
        }
    }

    /// Returns until when a batch that is not full waits for more jobs, if at all.
    fn hold_until(&self, builder: &BatchBuilder<'_>, now: Instant) -> Option<Instant> {
        let delay = self.config.max_batch_delay;
        if delay == Duration::ZERO || builder.is_full() || !builder.has_image_room() {
            return None;
        }
        let oldest =
            builder.rows.iter().filter_map(|row| self.pending.get(row.job.0 as usize)?.submitted()).min()?;
        let mut until = oldest + delay;
        if let Some(deadline) = builder.earliest_deadline()
            && self.model.is_calibrated()
        {
            until = until.min(deadline.checked_sub(builder.time()).unwrap_or(now));
        }
        (until > now).then_some(until)
    }

    /// Returns the infeasible job with the most time left, for an engine without other work.
    ///
    /// It delays no other job, and it corrects a model that predicts too long times.
    fn probe(&self, new: &[JobIndex]) -> Option<JobIndex> {
        let set_aside = self.infeasible.last().map(|(_, job)| *job);
        let newest = new
            .iter()
            .filter_map(|index| Some((self.pending.get(index.0 as usize)?.last_deadline()?, *index)))
            .max()
            .map(|(_, job)| job);
        newest.or(set_aside)
    }
}
