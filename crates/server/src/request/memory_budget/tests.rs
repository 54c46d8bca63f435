use super::*;

pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Returns a budget of `memory_bytes`, and a quarter of that for callers without a key.
pub(crate) fn budget(memory_bytes: usize, max_message_bytes: usize) -> MemoryBudget {
    MemoryBudget::new(MessageLimits {
        memory_bytes,
        keyless_memory_bytes: memory_bytes / 4,
        max_message_bytes,
        idle_timeout: IDLE_TIMEOUT,
        upload_timeout: UPLOAD_TIMEOUT,
        unread_response_bytes: memory_bytes,
    })
}

/// Returns the budget of one caller.
pub(crate) fn caller_budget(memory_bytes: usize, max_message_bytes: usize) -> CallerBudget {
    budget(memory_bytes, max_message_bytes).of(Caller::SERVER)
}

fn peer(last: u8) -> Caller {
    Caller::peer(Some([192, 0, 2, last].into()))
}

/// Receives a message in pieces of 1 KiB, and returns how much of it the budget admitted.
fn receive(budget: &CallerBudget, permit: &BudgetPermit, bytes: usize) -> usize {
    let mut message = budget.begin(permit, None).unwrap();
    (0..bytes >> 10).take_while(|_| message.receive(1 << 10).is_ok()).count() << 10
}

#[test]
fn message_over_the_limit_is_rejected_with_free_memory() {
    let budget = caller_budget(1 << 30, 1000);
    let error = budget.begin(&BudgetPermit::default(), Some(1001)).unwrap_err();
    assert_eq!(error.reason(), ErrorReason::MessageTooLarge);
    assert_eq!(error.to_string(), "request message too large: 1001 bytes, 1000 bytes allowed");
    let mut message = budget.begin(&BudgetPermit::default(), None).unwrap();
    assert_eq!(message.receive(1000), Ok(()));
    assert_eq!(message.receive(1).unwrap_err().reason(), ErrorReason::MessageTooLarge);
}

#[test]
fn announced_length_reserves_nothing_before_data() {
    let budget = budget(1 << 20, 1 << 20);
    let attacker = budget.of(peer(1));
    let permits: Vec<_> = (0..1000).map(|_| BudgetPermit::default()).collect();
    let messages: Vec<_> =
        permits.iter().map(|permit| attacker.begin(permit, Some(900_000)).unwrap()).collect();
    assert_eq!(receive(&budget.of(peer(2)), &BudgetPermit::default(), 900 << 10), 900 << 10);
    drop(messages);
}

#[test]
fn memory_of_each_message_returns_when_its_permit_is_dropped() {
    let budget = caller_budget(9 << 20, 9 << 20);
    let permit = BudgetPermit::default();
    assert_eq!(receive(&budget, &permit, 3 << 20), 3 << 20);
    assert_eq!(receive(&budget, &permit, 5 << 20), 5 << 20);
    // The messages of a stream return their memory separately.
    let (first, second) = (permit.next_message(), permit.next_message());
    let error = budget.begin(&permit, Some(1 << 10)).unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ServerBusy);
    assert_eq!(
        error.to_string(),
        "server busy: 8389632 bytes of the client's requests in memory, 8388608 bytes allowed"
    );
    drop(first);
    assert!(budget.begin(&permit, Some(3 << 20)).is_ok());
    drop((permit, second));
}

#[test]
fn caller_with_much_memory_leaves_room_for_others() {
    let budget = budget(9 << 20, 64 << 20);
    let greedy = BudgetPermit::default();
    assert_eq!(receive(&budget.of(peer(1)), &greedy, 16 << 20), 8 << 20);
    assert_eq!(receive(&budget.of(peer(2)), &BudgetPermit::default(), 100 << 10), 100 << 10);
}

#[test]
fn unread_responses_are_a_share_of_separate_memory() {
    let budget = budget(9 << 20, 1 << 20);
    let held: Vec<_> = (0..).map_while(|_| budget.reserve_response(peer(1), 1 << 10).ok()).collect();
    assert_eq!(held.len(), 8 << 10);
    assert_eq!(
        budget.reserve_response(peer(1), 1 << 10).unwrap_err().to_string(),
        "server busy: 8389632 bytes of the client's unread responses in memory, 8388608 bytes allowed"
    );
    assert!(budget.reserve_response(peer(2), 100 << 10).is_ok());
}

#[test]
fn callers_without_a_key_hold_only_their_own_budget() {
    let budget = budget(36 << 20, 36 << 20);
    let error = budget.of_keyless(peer(1)).begin(&BudgetPermit::default(), Some(9 << 20)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request message too large: 9437184 bytes, 8388608 bytes without a key in a header allowed"
    );
    let permits: Vec<_> = (0..50).map(|_| BudgetPermit::default()).collect();
    let held: usize = (0..)
        .zip(&permits)
        .map(|(last, permit)| receive(&budget.of_keyless(peer(last)), permit, 8 << 20))
        .sum();
    assert!(held <= 9 << 20, "{held}");
    assert_eq!(receive(&budget.of(peer(1)), &BudgetPermit::default(), 32 << 20), 32 << 20);
}

#[test]
fn memory_is_charged_to_the_client_when_its_key_is_known() {
    let budget = budget(36 << 20, 36 << 20);
    let permit = BudgetPermit::default();
    assert_eq!(receive(&budget.of_keyless(peer(1)), &permit, 8 << 20), 8 << 20);
    permit.charge_to(&budget.of(peer(2))).unwrap();
    // The budget of callers without a key is free again.
    assert_eq!(receive(&budget.of_keyless(peer(1)), &BudgetPermit::default(), 8 << 20), 8 << 20);
    let rest = receive(&budget.of(peer(2)), &BudgetPermit::default(), 36 << 20);
    assert_eq!(rest, 24 << 20);
}
