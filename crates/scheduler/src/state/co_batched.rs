//! Flights that wait on one image.

use std::collections::BTreeSet;

use crate::{ids::FlightId, job::Priority};

/// A flight among those that wait on an image.
pub(crate) type Rider = (Priority, u64, FlightId);

/// Flights that wait on one image. Most images have one or two: the first takes no allocation.
#[derive(Debug, Default)]
pub(crate) struct Riders {
    /// None only while there is none at all.
    first: Option<Rider>,
    others: BTreeSet<Rider>,
}

impl Riders {
    pub(crate) fn insert(&mut self, rider: Rider) {
        match self.first {
            None => self.first = Some(rider),
            Some(first) if rider < first => {
                self.others.insert(first);
                self.first = Some(rider);
            }
            Some(first) if rider > first => drop(self.others.insert(rider)),
            Some(_) => {}
        }
    }

    pub(crate) fn remove(&mut self, rider: &Rider) {
        if self.first == Some(*rider) {
            self.first = self.others.pop_first();
        } else {
            self.others.remove(rider);
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = FlightId> {
        self.first.iter().chain(&self.others).map(|(.., flight)| *flight)
    }
}
