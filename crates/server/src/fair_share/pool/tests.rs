use proptest::prelude::*;

use super::*;

fn caller(id: u64) -> Caller {
    Caller { id: ClientId(id), weight: 1 }
}

/// Lets a caller take steps until it is refused.
fn take_all(pool: &FairShare, caller: Caller, step: usize) -> Share {
    let mut share = pool.share(caller);
    while share.grow(step).is_ok() {}
    share
}

#[test]
fn caller_alone_holds_nearly_all() {
    let pool = FairShare::new(9_000);
    assert_eq!(take_all(&pool, caller(1), 1).units(), 8_000);
    assert_eq!(pool.reserve(caller(1), 9_000).unwrap().units(), 9_000);
}

#[test]
fn refusal_has_the_amounts_for_a_message() {
    let pool = FairShare::new(9_000);
    let mut share = pool.reserve(caller(1), 7_000).unwrap();
    let refusal = share.grow(1_500).unwrap_err();
    let expected = Refusal { requested: 1_500, held: 7_000, allowed: 8_000, free: 2_000, capacity: 9_000 };
    assert_eq!(refusal, expected);
    assert_eq!(share.units(), 7_000);
}

#[test]
fn transfer_moves_units_or_leaves_them() {
    let (keyless, clients) = (FairShare::new(100), FairShare::new(1_000));
    let mut share = keyless.reserve(caller(1), 60).unwrap();
    share.transfer(&clients, caller(2)).unwrap();
    assert_eq!((keyless.holdings().free, clients.holdings().free), (100, 940));
    assert!(share.transfer(&FairShare::new(50), caller(2)).is_err());
    assert_eq!((share.units(), clients.holdings().free), (60, 940));
    // The same caller may keep what it holds, although it might not take it again.
    share.transfer(&clients, caller(2)).unwrap();
    let mut other = clients.reserve(caller(3), 10).unwrap();
    share.merge(&mut other).unwrap();
    assert_eq!((share.units(), other.units()), (70, 0));
    drop((share, other));
    assert_eq!(clients.holdings().free, 1_000);
}

proptest! {
    #[test]
    fn capacity_is_never_exceeded_and_all_returns(
        capacity in 0_usize..500,
        steps in proptest::collection::vec((0_u64..5, 1_u32..5, 0_usize..100, any::<bool>()), 0..200),
    ) {
        let pool = FairShare::new(capacity);
        let mut shares: Vec<Share> = Vec::new();
        for (id, weight, units, is_release) in steps {
            if is_release && !shares.is_empty() {
                let index = units % shares.len();
                shares[index].shrink(units);
                shares.swap_remove(units % shares.len());
            } else if let Ok(share) = pool.reserve(Caller { id: ClientId(id), weight }, units) {
                shares.push(share);
            }
            let held: usize = shares.iter().map(Share::units).sum();
            let holdings = pool.holdings();
            prop_assert_eq!(holdings.free + held, capacity);
            prop_assert_eq!(holdings.by_caller.values().sum::<usize>(), held);
            prop_assert!(holdings.by_caller.values().all(|held| *held > 0));
        }
        drop(shares);
        prop_assert_eq!(pool.holdings().free, capacity);
        prop_assert!(pool.holdings().by_caller.is_empty());
    }

    #[test]
    fn small_need_of_a_new_caller_fits_beside_greedy_ones(
        greedy in 1_u64..12, step in 1_usize..20, need in 0_usize..100,
    ) {
        let pool = FairShare::new(20_000);
        let _held: Vec<Share> = (0..greedy).map(|id| take_all(&pool, caller(id), step)).collect();
        prop_assert!(pool.reserve(caller(greedy), need).is_ok());
    }

    #[test]
    fn turnover_brings_callers_to_their_weights(weight in 1_u32..=8) {
        let pool = FairShare::new(5_000);
        // The first caller comes early and takes all that it may. Later each in turn returns a
        // tenth, and takes what it may.
        let (early, late) = (caller(1), Caller { id: ClientId(2), weight });
        let mut shares = [take_all(&pool, early, 1), take_all(&pool, late, 1)];
        for _ in 0..60 {
            for share in &mut shares {
                share.shrink(share.units() / 10);
                while share.grow(1).is_ok() {}
            }
        }
        let [early, late] = shares.each_ref().map(|share| share.units() as f64);
        let ratio = late / early;
        prop_assert!((ratio / f64::from(weight) - 1.0).abs() < 0.05, "{ratio} for {weight}");
    }
}
