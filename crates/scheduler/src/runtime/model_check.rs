//! Checks the engine waiters and the state machine over thousands of thread interleavings.
//!
//! A lost notification appears as a deadlock. A job that is lost or settled twice appears as a
//! wrong count.

use std::sync::Arc as StdArc;

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use tokio::time::Instant;

use super::engine_waiters::EngineWaiters;
use crate::{
    config::SchedulerConfig,
    engine::{EngineError, EngineErrorKind},
    job::{ClientId, Priority},
    limits::BatchLimits,
    state_machine::{Effects, JobSpec, StateMachine},
};

type Waiters = EngineWaiters<StateMachine<(), u8, usize>>;

const JOBS: usize = 6;

struct Outcomes([AtomicUsize; JOBS]);

impl Outcomes {
    fn count(&self, job: usize) {
        self.0[job].fetch_add(1, Ordering::SeqCst);
    }
}

fn carry_out(waiters: &Waiters, outcomes: &Outcomes, effects: Effects<usize>) {
    for engine in effects.wake {
        waiters.notify(engine);
    }
    for (job, _) in effects.failed {
        outcomes.count(job);
    }
}

fn submit(waiters: &Waiters, outcomes: &Outcomes, job: usize) -> crate::ids::JobId {
    // Jobs 0 and 4, and jobs 1 and 5, are the same question.
    let question = (job % 4) as u8;
    let spec = JobSpec {
        client: ClientId(job as u64 % 2),
        priority: Priority::Normal,
        weight: 1,
        deadline: None,
        image_digest: [question / 2; 32],
        image_bytes: 1,
        question_key: [question; 32],
        tokens: 1,
        decode_steps: 0,
    };
    let mut effects = Effects::default();
    let id = waiters
        .lock()
        .submit(Instant::now(), &spec, StdArc::new(()), StdArc::new(question), job, &mut effects)
        .unwrap();
    carry_out(waiters, outcomes, effects);
    id
}

/// Does what an engine's thread does. Its first batch fails if it has several rows.
fn serve(waiters: &Waiters, outcomes: &Outcomes, engine: usize) {
    let mut batches = 0;
    loop {
        let (batch, effects, is_finished) = waiters
            .wait_until(engine, |machine| {
                let mut effects = Effects::default();
                let batch = machine.next_batch(Instant::now(), engine, &mut effects);
                let is_finished = batch.is_none() && machine.is_finished();
                let found = batch.is_some() || is_finished || !effects.is_empty();
                found.then_some((batch, effects, is_finished))
            })
            .unwrap();
        carry_out(waiters, outcomes, effects);
        let Some(batch) = batch else {
            if is_finished {
                return;
            }
            continue;
        };
        batches += 1;
        let fails = batches == 1 && batch.questions.len() > 1;
        if !fails {
            for row in 0..batch.questions.len() {
                let finished = waiters.lock().finish_row(Instant::now(), engine, row);
                for job in finished {
                    outcomes.count(job.token);
                }
            }
        }
        let result =
            if fails { Err(EngineError::new(EngineErrorKind::Batch, "made to fail")) } else { Ok(()) };
        let mut effects = Effects::default();
        waiters.lock().end_batch(Instant::now(), engine, result, 1, &mut effects);
        carry_out(waiters, outcomes, effects);
    }
}

#[test]
fn interleavings_lose_no_job_and_no_notification() {
    shuttle::check_random(
        || {
            let batch = BatchLimits { max_questions: 2, ..BatchLimits::default() };
            let config = SchedulerConfig { batch, ..SchedulerConfig::default() };
            let waiters: Arc<Waiters> = Arc::new(EngineWaiters::new(StateMachine::new(config, 2), 2));
            let outcomes = Arc::new(Outcomes(std::array::from_fn(|_| AtomicUsize::new(0))));
            let engines: Vec<_> = (0..2)
                .map(|engine| {
                    let (waiters, outcomes) = (Arc::clone(&waiters), Arc::clone(&outcomes));
                    thread::spawn(move || serve(&waiters, &outcomes, engine))
                })
                .collect();
            let clients: Vec<_> = (0..2)
                .map(|client| {
                    let (waiters, outcomes) = (Arc::clone(&waiters), Arc::clone(&outcomes));
                    thread::spawn(move || {
                        for job in (client..JOBS).step_by(2) {
                            let id = submit(&waiters, &outcomes, job);
                            if job >= 4 {
                                let token = waiters.lock().cancel(id);
                                token.into_iter().for_each(|job| outcomes.count(job));
                            }
                        }
                    })
                })
                .collect();
            for client in clients {
                client.join().unwrap();
            }
            let mut effects = Effects::default();
            waiters.lock().close(&mut effects);
            carry_out(&waiters, &outcomes, effects);
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
