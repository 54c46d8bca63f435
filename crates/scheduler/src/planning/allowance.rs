//! The amount of a limited resource that one client may hold: a dynamic threshold.
//!
//! A client may hold an amount up to a threshold that falls with the free amount, as Choudhury and
//! Hahne propose ("Dynamic queue length thresholds for shared-memory packet switches", 1998). It
//! needs no state besides the amounts that are held, and nothing to tune.
//!
//! Their threshold is a multiple of the free amount `f`. Clients that come one after another and
//! return nothing would then leave one part in `9^k`. The threshold is therefore quadratic in `f`:
//! `8 * weight * f^2 / (capacity - 8 * f)`. With weight 1,
//!
//! - a client that is alone holds 8/9 of the capacity,
//! - `k` clients that come one after another leave one part in `8 * k + 1`,
//! - `k` clients that return and take again hold equal amounts: 45 % each of two, 9 % of ten.

/// One part in this number plus one stays free of a client that is alone.
const FACTOR: u128 = 8;

/// A limited resource, and what is free of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All units.
    pub capacity: usize,
    /// The units that no client holds, at most all.
    pub free: usize,
}

impl Room {
    /// Returns whether a client that holds `held` units may take `more`.
    ///
    /// A weight of 0 counts as 1. A client that holds nothing may take all that is free, so that a
    /// large need or a small capacity excludes nobody.
    #[must_use]
    pub fn admits(&self, weight: u32, held: usize, more: usize) -> bool {
        let Some(free) = self.free.checked_sub(more) else { return false };
        if held == 0 {
            return true;
        }
        let (free, held) = (free as u128, held as u128 + more as u128);
        let occupied = (self.capacity as u128).saturating_sub(FACTOR * free);
        let weight = u128::from(weight.max(1));
        held.saturating_mul(occupied) <= (FACTOR * weight).saturating_mul(free * free)
    }

    /// Returns the units that a client with `held` units may hold in all, at least `held`.
    #[must_use]
    pub fn allowance(&self, weight: u32, held: usize) -> usize {
        let (mut admitted, mut refused) = (0, self.free.saturating_add(1));
        while refused - admitted > 1 {
            let middle = admitted + (refused - admitted) / 2;
            if self.admits(weight, held, middle) {
                admitted = middle;
            } else {
                refused = middle;
            }
        }
        held.saturating_add(admitted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: usize = 100_000;

    /// Lets clients of these weights take all that they may, one after another.
    fn one_after_another(capacity: usize, weights: &[u32]) -> Vec<usize> {
        let mut free = capacity;
        let mut hold = |weight: &u32| {
            let held = Room { capacity, free: free - 1 }.allowance(*weight, 1);
            free -= held;
            held
        };
        weights.iter().map(&mut hold).collect()
    }

    /// Lets clients of these weights take single units by turns until none may take more.
    fn by_turns(capacity: usize, weights: &[u32]) -> Vec<usize> {
        let mut held = vec![0; weights.len()];
        loop {
            let before = held.clone();
            for (client, weight) in weights.iter().enumerate() {
                let room = Room { capacity, free: capacity - held.iter().sum::<usize>() };
                held[client] += usize::from(room.admits(*weight, held[client], 1));
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn client_alone_holds_eight_ninths() {
        assert_eq!(by_turns(9_000, &[1]), [8_000]);
        assert_eq!(by_turns(9, &[1]), [8]);
        assert_eq!(by_turns(2, &[1]), [1]);
        assert_eq!(by_turns(1, &[1]), [1]);
        // Even the largest weight of a key leaves 1 %.
        assert_eq!(by_turns(100_000, &[1000]), [98_936]);
    }

    #[test]
    fn clients_one_after_another_leave_one_part_in_8k_plus_1() {
        let held = one_after_another(17 * 25 * 9 * 33, &[1; 4]);
        assert_eq!(held.iter().sum::<usize>(), 17 * 25 * 9 * 32);
    }

    #[test]
    fn clients_by_turns_hold_equal_amounts() {
        let held = by_turns(CAPACITY, &[1; 2]);
        assert!(held.iter().all(|held| (44_800..45_000).contains(held)), "{held:?}");
        let held = by_turns(CAPACITY, &[1; 10]);
        assert!(held.iter().all(|held| (9_200..9_400).contains(held)), "{held:?}");
    }

    #[test]
    fn largest_values_do_not_overflow() {
        let room = Room { capacity: usize::MAX, free: usize::MAX };
        assert_eq!(room.allowance(u32::MAX, usize::MAX), usize::MAX);
        assert!(!Room { free: 0, ..room }.admits(0, usize::MAX, usize::MAX));
        assert!(Room { free: 0, ..room }.admits(0, 0, 0));
    }

    proptest! {
        #[test]
        fn admission_is_monotone_and_within_the_free_amount(
            weight in 0_u32..2000, held in 0_usize..1000, free in 0_usize..1000, more in 0_usize..1500,
        ) {
            let room = Room { capacity: 1000.max(held + free), free };
            let allowance = room.allowance(weight, held);
            prop_assert!(allowance <= held + free);
            prop_assert_eq!(room.admits(weight, held, more), held + more <= allowance || more == 0);
        }

        #[test]
        fn any_clients_leave_room_for_a_new_one(
            weights in proptest::collection::vec(1_u32..=10, 1..20), turns in any::<bool>(),
        ) {
            let held = if turns { by_turns(10_000, &weights) } else { one_after_another(10_000, &weights) };
            let free = 10_000 - held.iter().sum::<usize>();
            let total: usize = weights.iter().map(|weight| *weight as usize).sum();
            prop_assert!(free >= 10_000 / (8 * total + 1));
        }

        #[test]
        fn clients_that_return_and_take_hold_by_weight(
            weights in proptest::collection::vec(1_u32..=10, 2..6),
        ) {
            let mut held = by_turns(CAPACITY, &weights);
            for _ in 0..100 {
                for (client, weight) in weights.iter().enumerate() {
                    held[client] -= held[client] / 10;
                    let room = Room { capacity: CAPACITY, free: CAPACITY - held.iter().sum::<usize>() };
                    held[client] = room.allowance(*weight, held[client]);
                }
            }
            let unit = held.iter().sum::<usize>() as f64 / f64::from(weights.iter().sum::<u32>());
            for (held, weight) in held.iter().zip(&weights) {
                let share = unit * f64::from(*weight);
                prop_assert!((*held as f64 - share).abs() <= 0.02 * share, "{held} of {share}");
            }
        }
    }
}
