//! The policy: a pure function from what waits, what the engines do and what the model predicts, to a batch.
//!
//! In this order, as far as limits allow:
//! 1. *turns*: jobs in fair order ([`fair_queue`](crate::queue)); the first one is always in,
//!    one for which there is no room is passed over and is first again next time; when a larger
//!    batch would save nothing, only those that would be late in the next one;
//! 2. *riders*: others who wait on an image that is in the batch now, then on one that the engine
//!    has in its cache, where they need no further padding;
//! 3. *cut*: what would make an urgent row late is left for the next batch, or others are taken for
//!    rows that are not worth it ([`deadline_cut`](crate::planning::deadline_fit)).

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::{
    batch_builder::{Candidate, Draft},
    deadline_fit::{self, Cut},
};
use crate::{
    config::SchedulerConfig,
    cost::{ServiceModel, TurnPrice},
    ids::FlightId,
    queue::{FairQueue, Like},
    state::{
        engine_slot::{EngineSlot, Phase},
        image_index::ImageIndex,
        pending_job::Flight,
    },
};

/// All that the policy may look at.
pub(crate) struct View<'a, I, Q, W> {
    pub(crate) flights: &'a Slab<Flight<Q, W>>,
    pub(crate) images: &'a ImageIndex<I>,
    pub(crate) fair: &'a FairQueue,
    pub(crate) hopeless: &'a BTreeSet<(Instant, FlightId)>,
    pub(crate) engines: &'a [EngineSlot],
    pub(crate) model: &'a ServiceModel,
    pub(crate) price: TurnPrice,
    pub(crate) config: &'a SchedulerConfig,
}

/// What an engine is to do now.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The rows of the batch; empty when there is nothing for this engine now.
    pub(crate) rows: Vec<FlightId>,
    /// Flights that cannot meet their deadline even in a batch of their own.
    pub(crate) hopeless: Vec<FlightId>,
    /// When to look again although nothing has happened.
    pub(crate) hold_until: Option<Instant>,
    /// The job whose turn it was is not in the batch.
    pub(crate) head_left_out: bool,
}

/// Batches in a row that may leave out the job whose turn it is for the sake of others' deadlines.
const HEAD_LEFT_OUT: u32 = 3;

/// Jobs looked at for each row that a batch may have.
const LOOK_AHEAD: usize = 4;

/// When an engine that leaves a job to an idle one looks again; it is not expected to find it still there.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Riders looked at in vain before the search for more ends.
const RIDERS_MISSED: usize = 32;

/// Riders on one image among which those of like length are chosen.
const RIDERS_COMPARED: usize = 128;

enum Verdict {
    Fits(Candidate),
    NoRoom,
    Hopeless,
    /// Another engine has the image and can take it sooner than this one could encode it.
    BetterElsewhere(Instant),
}

impl<I, Q, W> View<'_, I, Q, W> {
    /// The batch for an engine that is free now.
    pub(crate) fn form(&self, engine: usize, now: Instant, closing: bool) -> Plan {
        let Some(slot) = self.engines.get(engine) else { return Plan::default() };
        let empty = Draft::new(self.model, slot.limit.get());
        let mut plan = Plan::default();
        let mut left_out = Vec::new();
        let mut head = None;
        for last_round in [false, true] {
            let mut draft = empty.clone();
            plan = Plan::default();
            let elsewhere = self.take_turns(engine, slot, now, &left_out, &mut draft, &mut plan);
            if draft.rows.is_empty() {
                plan.hold_until = elsewhere;
                if elsewhere.is_none() {
                    plan.rows.extend(self.probe(plan.hopeless.as_slice()));
                }
                return plan;
            }
            self.take_riders(engine, slot, now, &left_out, &mut draft);
            if let Some(until) = self.hold(&draft, now)
                && !closing
            {
                plan.hold_until = Some(until);
                return plan;
            }
            head = head.or_else(|| draft.rows.first().map(|row| row.flight));
            let more_waits = self.fair.len() > draft.rows.len();
            let owed = slot.head_left_out >= HEAD_LEFT_OUT;
            let cut = if self.model.is_believed() && !last_round {
                deadline_fit::cut(draft, &empty, now, owed, more_waits)
            } else {
                Cut::Run(draft)
            };
            match cut {
                Cut::Without(late) => left_out = late,
                Cut::Run(draft) => {
                    plan.head_left_out = head.is_some_and(|head| !draft.contains(head));
                    plan.rows = draft.rows.iter().map(|row| row.flight).collect();
                    break;
                }
            }
        }
        plan
    }

    /// Goes through the jobs in fair order. Gives back when another engine can take the first of
    /// those that were left for it.
    fn take_turns(
        &self,
        engine: usize,
        slot: &EngineSlot,
        now: Instant,
        left_out: &[FlightId],
        draft: &mut Draft<'_>,
        plan: &mut Plan,
    ) -> Option<Instant> {
        let share = self.config.fixed_share;
        let mut elsewhere: Option<Instant> = None;
        let mut enough = false;
        let mut left = LOOK_AHEAD * slot.limit.get().max_questions + plan.hopeless.len();
        let mut walk = self.fair.walk();
        while left > 0 && !draft.is_full() {
            let like = Like { longest: draft.longest(), rows: draft.rows.len(), now };
            let Some(flight) = walk.next(like) else { break };
            left -= 1;
            if left_out.contains(&flight) {
                continue;
            }
            if !draft.has_image_room() {
                // Only questions on images that are in, or cached, fit now; riders are found by their image.
                left = left.min(slot.limit.get().max_questions / 2);
            }
            match self.judge(flight, engine, now, draft) {
                Verdict::Fits(candidate) => {
                    let encodes = draft.encodes(&candidate);
                    if !enough
                        && ((encodes && draft.has_images_enough(share))
                            || (!encodes && draft.has_questions_enough(share, slot.caches)))
                    {
                        enough = true;
                        left = left.min(slot.limit.get().max_questions);
                    }
                    // The batch is large enough: what follows is taken only if it cannot wait for the next.
                    if enough && !draft.comes_too_late_after(&candidate, now) {
                        continue;
                    }
                    walk.charge(self.price.of(encodes));
                    draft.push(candidate);
                }
                Verdict::NoRoom => {}
                Verdict::Hopeless => {
                    // Its place in the look-ahead goes to another: the dead must not crowd out the living.
                    left += 1;
                    plan.hopeless.push(flight);
                }
                Verdict::BetterElsewhere(when) => {
                    elsewhere = Some(elsewhere.map_or(when, |other| other.min(when)))
                }
            }
        }
        elsewhere
    }

    fn judge(&self, flight: FlightId, engine: usize, now: Instant, draft: &Draft<'_>) -> Verdict {
        let Some((candidate, feasible)) = self.candidate(flight, engine, now) else { return Verdict::NoRoom };
        if !feasible {
            return Verdict::Hopeless;
        }
        if !draft.has_room(&candidate) {
            return Verdict::NoRoom;
        }
        if draft.encodes(&candidate)
            && let Some(when) = self.free_elsewhere(&candidate, engine, now)
        {
            return Verdict::BetterElsewhere(when);
        }
        Verdict::Fits(candidate)
    }

    /// What matters of a flight, and whether any of its waiters could have the answer in time.
    fn candidate(&self, id: FlightId, engine: usize, now: Instant) -> Option<(Candidate, bool)> {
        let flight = self.flights.get(id.0 as usize)?;
        let cached = self.images.is_cached(flight.image, engine);
        let (first, last) = (flight.first_deadline(), flight.last_deadline());
        let alone = now + self.model.predict(usize::from(!cached), 1);
        let in_time = |deadline: Option<Instant>| deadline.is_none_or(|deadline| alone <= deadline);
        let deadline = if in_time(first) { first } else { last };
        let candidate =
            Candidate { flight: id, image: flight.image, cached, tokens: flight.tokens as usize, deadline };
        Some((candidate, in_time(last) || !self.model.is_believed()))
    }

    /// Whether an engine that has the image will be free sooner than it could be encoded here; gives
    /// back when to look again.
    fn free_elsewhere(&self, candidate: &Candidate, engine: usize, now: Instant) -> Option<Instant> {
        let encode = crate::cost::duration(self.model.coefficients().image);
        self.images
            .warm(candidate.image)
            .iter()
            .filter(|other| *other != engine)
            .filter_map(|other| {
                let slot = self.engines.get(other)?;
                let remaining = slot.remaining(now)?;
                let idle = matches!(slot.phase, Phase::Idle | Phase::Called);
                // An idle one takes it by itself; of a busy one it has to be seen whether it keeps to the prediction.
                let look_again = slot.overdue_at().unwrap_or(now + LOOK_AGAIN) + Duration::from_millis(1);
                (idle || (self.model.is_believed() && remaining <= encode)).then_some(look_again)
            })
            .min()
    }

    fn take_riders(
        &self,
        engine: usize,
        slot: &EngineSlot,
        now: Instant,
        left_out: &[FlightId],
        draft: &mut Draft<'_>,
    ) {
        let in_batch = draft.images().to_vec();
        let mut misses = 0;
        let images = in_batch.into_iter().chain(self.images.ready(engine));
        for image in images {
            let mut fitting = Vec::new();
            for flight in self.images.waiting(image) {
                if draft.is_full() || draft.has_questions_enough(self.config.fixed_share, slot.caches) {
                    return;
                }
                if draft.contains(flight) || left_out.contains(&flight) {
                    continue;
                }
                let Some((candidate, feasible)) = self.candidate(flight, engine, now) else { continue };
                let needs_nothing = !draft.encodes(&candidate) && candidate.tokens <= draft.longest();
                if feasible && needs_nothing && draft.has_room(&candidate) {
                    fitting.push(candidate);
                } else {
                    misses += 1;
                }
                if misses > RIDERS_MISSED || fitting.len() >= RIDERS_COMPARED {
                    break;
                }
            }
            // It is nobody's turn among them: in each class the longest go first, which are padded the least.
            if !draft.has_rows_for(fitting.len()) {
                let class =
                    |flight: FlightId| self.flights.get(flight.0 as usize).map(|flight| flight.place.class);
                fitting.sort_by_key(|candidate| (class(candidate.flight), Reverse(candidate.tokens)));
            }
            for candidate in fitting {
                if draft.is_full() || draft.has_questions_enough(self.config.fixed_share, slot.caches) {
                    return;
                }
                if draft.has_room(&candidate) {
                    draft.push(candidate);
                }
            }
            if misses > RIDERS_MISSED {
                return;
            }
        }
    }

    /// Until when a batch that is not full is held back for company; never when the delay is zero.
    fn hold(&self, draft: &Draft<'_>, now: Instant) -> Option<Instant> {
        let delay = self.config.queue_delay;
        if delay == Duration::ZERO || draft.is_full() || !draft.has_image_room() {
            return None;
        }
        let oldest =
            draft.rows.iter().filter_map(|row| self.flights.get(row.flight.0 as usize)?.submitted()).min()?;
        let mut until = oldest + delay;
        if let Some(deadline) = draft.soonest()
            && self.model.is_believed()
        {
            until = until.min(deadline.checked_sub(draft.time()).unwrap_or(now));
        }
        (until > now).then_some(until)
    }

    /// For an engine without other work: the hopeless flight with the most time left. It costs
    /// nobody anything, and it is how a model that became too pessimistic is found out.
    fn probe(&self, found_now: &[FlightId]) -> Option<FlightId> {
        let parked = self.hopeless.last().map(|(_, flight)| *flight);
        let fresh = found_now
            .iter()
            .filter_map(|id| Some((self.flights.get(id.0 as usize)?.last_deadline()?, *id)))
            .max()
            .map(|(_, flight)| flight);
        fresh.or(parked)
    }
}
