//! Overhead of the scheduler: jobs in, through a batch, and out again, with an engine that does
//! nothing.
//!
//! `cargo bench -p scheduler --bench queue`. Times are for 64 jobs, throughput is in jobs. The
//! first group measures the thread's CPU time, so that other load does not count. The second group
//! measures wall-clock time.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use cpu_time::ThreadTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{
    Batch, ClientId, Engine, EngineError, EngineFactory, Job, Priority, QueueLimits, RowSink, Scheduler,
    SchedulerConfig,
};
use tokio::time::Instant;

const BATCH: u64 = 64;

fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    for (place, byte) in key.iter_mut().zip(number.to_le_bytes()) {
        *place = byte;
    }
    key
}

fn unlimited() -> SchedulerConfig {
    let limit = usize::MAX;
    SchedulerConfig {
        queue: QueueLimits { max_jobs: limit, max_bytes: limit, max_jobs_per_client: limit },
        reject_late_jobs: false,
        ..SchedulerConfig::default()
    }
}

struct Queue {
    machine: StateMachine<(), (), u64>,
    now: Instant,
    number: u64,
    image: Arc<()>,
}

impl Queue {
    fn with(queued: u64) -> Self {
        let machine = StateMachine::new(unlimited(), 1);
        let mut queue = Self { machine, now: Instant::now(), number: 0, image: Arc::new(()) };
        (0..queued).for_each(|_| queue.submit());
        queue
    }

    /// Submits a job: 1,000 clients, four questions for each image, and a distant deadline.
    fn submit(&mut self) {
        let number = self.number;
        self.number += 1;
        let spec = JobSpec {
            client: ClientId(number.wrapping_mul(2_654_435_761) % 1000),
            priority: Priority::Normal,
            weight: 1,
            deadline: Some(self.now + Duration::from_secs(100_000)),
            image_digest: key(number / 4),
            image_bytes: 1,
            question_key: key(number),
            tokens: 8 + (number % 8) as u32,
            decode_steps: 0,
        };
        let mut effects = Effects::default();
        let image = Arc::clone(&self.image);
        let question = Arc::clone(&self.image);
        drop(black_box(self.machine.submit(self.now, &spec, image, question, number, &mut effects)));
    }

    /// Submits as many jobs as a batch holds, and runs as many.
    fn turn_over(&mut self) {
        (0..BATCH).for_each(|_| self.submit());
        let mut gone = 0;
        while gone < BATCH {
            let mut effects = Effects::default();
            let Some(batch) = self.machine.next_batch(self.now, 0, &mut effects) else { return };
            let rows = batch.questions.len();
            self.now += Duration::from_millis(10 + rows as u64);
            for row in 0..rows {
                black_box(self.machine.finish_row(self.now, 0, row));
            }
            self.machine.end_batch(self.now, 0, Ok(()), 4, &mut effects);
            gone += rows as u64;
        }
    }
}

fn queued(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("64 jobs in and out, with so many queued");
    group.throughput(Throughput::Elements(BATCH)).sample_size(30).measurement_time(Duration::from_secs(3));
    for waiting in [100, 1_000, 10_000, 100_000] {
        let mut queue = Queue::with(waiting);
        group.bench_function(BenchmarkId::from_parameter(waiting), |bencher| {
            bencher.iter_custom(|times| {
                let start = ThreadTime::now();
                (0..times).for_each(|_| queue.turn_over());
                start.elapsed()
            });
        });
    }
    group.finish();
}

/// Answers every row immediately.
struct NullEngine;

impl Engine for NullEngine {
    type Image = ();
    type Question = ();
    type Answer = ();

    fn run(&mut self, batch: &Batch<(), ()>, rows: &mut dyn RowSink<()>) -> Result<(), EngineError> {
        (0..batch.questions.len()).for_each(|row| rows.finish(row, Ok(())));
        Ok(())
    }
}

fn threads(criterion: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    let factory: EngineFactory<NullEngine> = Box::new(|| Ok(NullEngine));
    let Ok(scheduler) = runtime.block_on(Scheduler::start(unlimited(), vec![factory])) else { return };
    let mut number = 0;
    let mut group = criterion.benchmark_group("through threads and tickets");
    group.throughput(Throughput::Elements(1000)).sample_size(20);
    group.bench_function("1000 jobs", |bencher| {
        bencher.iter(|| {
            let tickets: Vec<_> = (0..1000)
                .filter_map(|_| {
                    number += 1;
                    let job = Job {
                        client: ClientId(number % 100),
                        priority: Priority::Normal,
                        weight: 1,
                        deadline: None,
                        image_digest: key(number),
                        image: Arc::new(()),
                        image_bytes: 1,
                        question: Arc::new(()),
                        question_key: key(number),
                        tokens: 8,
                        decode_steps: 0,
                    };
                    scheduler.submit(job).ok()
                })
                .collect();
            runtime.block_on(async {
                for ticket in tickets {
                    drop(black_box(ticket.await));
                }
                Ok::<(), Infallible>(())
            })
        });
    });
    group.finish();
    runtime.block_on(scheduler.shutdown());
}

criterion_group!(benches, queued, threads);
criterion_main!(benches);
