//! A capacity that callers share, and what each of them holds of it.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use scheduler::{ClientId, Room};

use crate::fair_share::Caller;

/// A capacity in units, such as bytes, places or connections. Clones share it.
#[derive(Clone, Debug)]
pub struct FairShare {
    capacity: usize,
    holdings: Arc<Mutex<Holdings>>,
}

/// What callers hold.
#[derive(Debug)]
struct Holdings {
    free: usize,
    /// Callers that hold something. So it has at most as many entries as the capacity has units.
    by_caller: HashMap<ClientId, usize>,
}

impl Holdings {
    fn held(&self, caller: Caller) -> usize {
        self.by_caller.get(&caller.id).copied().unwrap_or_default()
    }
}

/// Why a caller gets no more units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{requested} more requested with {held} held: {allowed} allowed of {capacity}, {free} free")]
pub struct Refusal {
    /// The units that were requested.
    pub requested: usize,
    /// The units that the caller holds.
    pub held: usize,
    /// The units that it may hold at this time.
    pub allowed: usize,
    /// The units that no caller holds.
    pub free: usize,
    /// All units.
    pub capacity: usize,
}

impl FairShare {
    /// Creates a capacity of which nothing is held.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let holdings = Holdings { free: capacity, by_caller: HashMap::new() };
        Self { capacity, holdings: Arc::new(Mutex::new(holdings)) }
    }

    /// Returns all units.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the units that `caller` can take in small steps while it is alone.
    #[must_use]
    pub fn largest(&self, caller: Caller) -> usize {
        let first = self.capacity.min(1);
        Room { capacity: self.capacity, free: self.capacity - first }.allowance(caller.weight, first)
    }

    /// Checks whether `caller` can take `units` in small steps, if nothing else changes.
    ///
    /// # Errors
    /// A [`Refusal`] if it cannot.
    pub fn check(&self, caller: Caller, units: usize) -> Result<(), Refusal> {
        let holdings = self.holdings();
        let held = holdings.held(caller);
        let first = usize::from(held == 0).min(units).min(holdings.free);
        self.admit(caller, held + first, holdings.free - first, units - first)
    }

    /// Returns an empty share of `caller`.
    #[must_use]
    pub fn share(&self, caller: Caller) -> Share {
        Share { pool: self.clone(), caller, units: 0 }
    }

    /// Reserves `units` for `caller`.
    ///
    /// # Errors
    /// A [`Refusal`] if the caller may not hold that many more. Nothing is reserved then.
    pub fn reserve(&self, caller: Caller, units: usize) -> Result<Share, Refusal> {
        let mut share = self.share(caller);
        share.grow(units)?;
        Ok(share)
    }

    fn take(&self, caller: Caller, units: usize) -> Result<(), Refusal> {
        if units == 0 {
            return Ok(());
        }
        let mut holdings = self.holdings();
        self.admit(caller, holdings.held(caller), holdings.free, units)?;
        holdings.free -= units;
        *holdings.by_caller.entry(caller.id).or_default() += units;
        Ok(())
    }

    fn admit(&self, caller: Caller, held: usize, free: usize, units: usize) -> Result<(), Refusal> {
        let room = Room { capacity: self.capacity, free };
        if units == 0 || room.admits(caller.weight, held, units) {
            return Ok(());
        }
        let allowed = room.allowance(caller.weight, held);
        Err(Refusal { requested: units, held, allowed, free, capacity: self.capacity })
    }

    fn give_back(&self, caller: Caller, units: usize) {
        if units == 0 {
            return;
        }
        let mut holdings = self.holdings();
        holdings.free += units;
        if let Some(held) = holdings.by_caller.get_mut(&caller.id) {
            *held = held.saturating_sub(units);
            if *held == 0 {
                holdings.by_caller.remove(&caller.id);
            }
        }
    }

    fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The units that one caller holds. They return to the capacity on drop.
#[derive(Debug)]
pub struct Share {
    pool: FairShare,
    caller: Caller,
    units: usize,
}

impl Share {
    /// Returns the number of units.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units
    }

    /// Reserves `more` units.
    ///
    /// # Errors
    /// A [`Refusal`] if the caller may not hold that many more. The share then stays as it is.
    pub fn grow(&mut self, more: usize) -> Result<(), Refusal> {
        self.pool.take(self.caller, more)?;
        self.units += more;
        Ok(())
    }

    /// Returns `less` of the units, at most all.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.units);
        self.units -= less;
        self.pool.give_back(self.caller, less);
    }

    /// Moves the units to `caller` in `pool`, for example when a peer has shown its key.
    ///
    /// # Errors
    /// A [`Refusal`] if that caller may not hold that many more. The share then stays as it is.
    pub fn transfer(&mut self, pool: &FairShare, caller: Caller) -> Result<(), Refusal> {
        if self.caller.id == caller.id && Arc::ptr_eq(&self.pool.holdings, &pool.holdings) {
            return Ok(());
        }
        // The old units return on drop.
        drop(mem::replace(self, pool.reserve(caller, self.units)?));
        Ok(())
    }

    /// Adds the units of `other`, which is empty afterwards.
    ///
    /// # Errors
    /// A [`Refusal`] if `other` belongs to another caller and this one may not hold that many more.
    pub fn merge(&mut self, other: &mut Self) -> Result<(), Refusal> {
        other.transfer(&self.pool, self.caller)?;
        self.units += mem::take(&mut other.units);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.give_back(self.caller, self.units);
    }
}

#[cfg(test)]
mod tests;
