//! Memory of a queued job.
#![expect(clippy::print_stdout, reason = "the figure is of interest within the bound too")]

use std::alloc::System;
use std::sync::Arc;

use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{ClientId, Completion, JobError, Priority, QueueLimits, SchedulerConfig};
use stats_alloc::{Region, StatsAlloc};
use tokio::sync::oneshot;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: StatsAlloc<System> = StatsAlloc::system();

fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

#[test]
fn queued_job_takes_at_most_one_kibibyte() {
    const JOBS: u64 = 100_000;
    let queue =
        QueueLimits { max_jobs: usize::MAX, max_jobs_per_client: usize::MAX, ..QueueLimits::default() };
    let mut machine: StateMachine<(), (), oneshot::Sender<Result<Completion<u64>, JobError>>> =
        StateMachine::new(SchedulerConfig { queue, ..SchedulerConfig::default() }, 1);
    let mut effects = Effects::default();
    let now = Instant::now();
    let (image, question) = (Arc::new(()), Arc::new(()));
    let mut replies = Vec::with_capacity(JOBS as usize);
    let region = Region::new(&ALLOCATOR);
    for number in 0..JOBS {
        // The most expensive case: each job has a separate client, image and deadline.
        let spec = JobSpec {
            client: ClientId(number),
            priority: Priority::Normal,
            weight: 1,
            deadline: Some(now + std::time::Duration::from_millis(1000 + number)),
            image_digest: key(number),
            image_bytes: 1,
            question_key: key(number),
            tokens: 8,
            decode_steps: 0,
        };
        // The channel to the client is part of the job.
        let (token, reply) = oneshot::channel();
        replies.push(reply);
        machine.submit(now, &spec, Arc::clone(&image), Arc::clone(&question), token, &mut effects).unwrap();
    }
    let change = region.change();
    // Both counts already include reallocations.
    let bytes = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
    let each = bytes / JOBS as f64;
    println!("{each:.0} bytes a queued job");
    assert!(each <= 1024.0, "{each:.0} bytes");
}
