//! The gate and the machine under a model checker, which tries thousands of thread interleavings.
//!
//! A ring that is missed shows as a deadlock, a job that is lost or answered twice as a wrong count.

use std::sync::Arc as StdArc;

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use tokio::time::Instant;

use super::engine_waiters::Gate;
use crate::{
    config::SchedulerConfig,
    engine::{EngineError, EngineErrorKind},
    job::{ClientId, ImageKey, Priority},
    limits::BatchLimits,
    state_machine::{Effects, JobSpec, Machine},
};

type World = Gate<Machine<(), u8, usize>>;

const JOBS: usize = 6;

struct Outcomes([AtomicUsize; JOBS]);

impl Outcomes {
    fn count(&self, job: usize) {
        self.0[job].fetch_add(1, Ordering::SeqCst);
    }
}

fn carry_out(world: &World, outcomes: &Outcomes, effects: Effects<usize>) {
    for engine in effects.wake {
        world.ring(engine);
    }
    for (job, _) in effects.failed {
        outcomes.count(job);
    }
}

fn submit(world: &World, outcomes: &Outcomes, job: usize) -> crate::ids::JobId {
    // Two pairs of jobs are the same question.
    let question = (job % 4) as u8;
    let spec = JobSpec {
        client: ClientId(job as u64 % 2),
        priority: Priority::Normal,
        weight: 1,
        deadline: None,
        image: ImageKey([question / 2; 32]),
        image_bytes: 1,
        question_key: [question; 32],
        tokens: 1,
    };
    let mut effects = Effects::default();
    let id = world
        .lock()
        .submit(Instant::now(), &spec, StdArc::new(()), StdArc::new(question), job, &mut effects)
        .unwrap();
    carry_out(world, outcomes, effects);
    id
}

/// What an engine's thread does, with a batch that fails now and then.
fn serve(world: &World, outcomes: &Outcomes, engine: usize) {
    let mut batches = 0;
    loop {
        let (batch, effects, over) = world
            .wait_until(engine, |machine| {
                let mut effects = Effects::default();
                let batch = machine.next_batch(Instant::now(), engine, &mut effects);
                let over = batch.is_none() && machine.is_over();
                let found = batch.is_some() || over || !effects.is_empty();
                found.then_some((batch, effects, over))
            })
            .unwrap();
        carry_out(world, outcomes, effects);
        let Some(batch) = batch else {
            if over {
                return;
            }
            continue;
        };
        batches += 1;
        let fails = batches == 1 && batch.questions.len() > 1;
        if !fails {
            for row in 0..batch.questions.len() {
                let answered = world.lock().finish_row(Instant::now(), engine, row);
                for answered in answered {
                    outcomes.count(answered.token);
                }
            }
        }
        let result =
            if fails { Err(EngineError::new(EngineErrorKind::Batch, "made to fail")) } else { Ok(()) };
        let mut effects = Effects::default();
        world.lock().end_batch(Instant::now(), engine, result, 1, &mut effects);
        carry_out(world, outcomes, effects);
    }
}

#[test]
fn no_interleaving_of_askers_engines_and_cancels_loses_a_job_or_a_wake_up() {
    shuttle::check_random(
        || {
            let batch = BatchLimits { max_questions: 2, ..BatchLimits::default() };
            let config = SchedulerConfig { batch, ..SchedulerConfig::default() };
            let world: Arc<World> = Arc::new(Gate::new(Machine::new(config, 2), 2));
            let outcomes = Arc::new(Outcomes(std::array::from_fn(|_| AtomicUsize::new(0))));
            let engines: Vec<_> = (0..2)
                .map(|engine| {
                    let (world, outcomes) = (Arc::clone(&world), Arc::clone(&outcomes));
                    thread::spawn(move || serve(&world, &outcomes, engine))
                })
                .collect();
            let askers: Vec<_> = (0..2)
                .map(|asker| {
                    let (world, outcomes) = (Arc::clone(&world), Arc::clone(&outcomes));
                    thread::spawn(move || {
                        for job in (asker..JOBS).step_by(2) {
                            let id = submit(&world, &outcomes, job);
                            if job >= 4 {
                                let token = world.lock().cancel(id);
                                token.into_iter().for_each(|job| outcomes.count(job));
                            }
                        }
                    })
                })
                .collect();
            for asker in askers {
                asker.join().unwrap();
            }
            let mut effects = Effects::default();
            world.lock().close(&mut effects);
            carry_out(&world, &outcomes, effects);
            for engine in engines {
                engine.join().unwrap();
            }
            for (job, count) in outcomes.0.iter().enumerate() {
                assert_eq!(count.load(Ordering::SeqCst), 1, "outcomes of job {job}");
            }
        },
        1500,
    );
}
