//! Whoever answers records, and how long to keep asking.

use std::{future::Future, time::Duration};

use rand::Rng as _;
use tokio::time::Instant;

use crate::Fields;

/// Answers records.
pub trait Task: Send + Sync {
    /// Answers records that have the same value of `Plan::shared`: one outcome for each, in their order.
    ///
    /// # Errors
    /// Why no record will ever be answered, such as a key that is not accepted: the run stops.
    fn answer(&self, records: Vec<Fields>) -> impl Future<Output = Result<Vec<Outcome>, String>> + Send;
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Answered; these values are written beside its own.
    Answered(Fields),
    /// Not answered, and it won't be; likewise.
    Failed(Fields),
    /// Refused for now: to be asked again after so long. Likewise, if there is no time left for that.
    Busy(Duration, Fields),
    /// Whoever answers was lost, for this reason, before it did. To be asked again; if there is no time left for that, the
    /// run stops.
    Lost(String),
}

/// Shortest and longest pause before records are asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Asks until each record is answered or has failed, as long as `patience` lasts from the first time that one was not.
pub(crate) async fn until_answered(
    task: &impl Task,
    records: &[Fields],
    patience: Duration,
) -> Result<Vec<Outcome>, String> {
    let mut settled: Vec<Option<Outcome>> = vec![None; records.len()];
    let (mut pause, mut limit) = (PAUSES.0, None);
    loop {
        let open: Vec<usize> =
            settled.iter().enumerate().filter(|(_, outcome)| outcome.is_none()).map(|(at, _)| at).collect();
        if open.is_empty() {
            return Ok(settled.into_iter().flatten().collect());
        }
        let asked = open.iter().filter_map(|at| records.get(*at).cloned()).collect();
        let outcomes = task.answer(asked).await?;
        let now = Instant::now();
        let mut wait = Duration::ZERO;
        for (at, outcome) in open.into_iter().zip(outcomes) {
            let Some(place) = settled.get_mut(at) else { continue };
            let in_time = |wait: Duration, limit: &mut Option<Instant>| {
                now + wait <= *limit.get_or_insert(now + patience)
            };
            match outcome {
                Outcome::Busy(asked, _) if in_time(asked.max(pause), &mut limit) => wait = wait.max(asked),
                Outcome::Lost(_) if in_time(pause, &mut limit) => {}
                Outcome::Busy(_, fields) => *place = Some(Outcome::Failed(fields)),
                Outcome::Lost(cause) => return Err(cause),
                outcome => *place = Some(outcome),
            }
        }
        if settled.iter().any(Option::is_none) {
            // Not all at the same moment.
            let jitter = rand::rng().random_range(0.75..1.25);
            tokio::time::sleep(wait.max(pause.mul_f64(jitter))).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    /// Gives the outcomes of each call in turn, and keeps how many records were asked each time.
    struct Script {
        outcomes: Mutex<Vec<Vec<Outcome>>>,
        asked: Mutex<Vec<usize>>,
    }

    impl Script {
        fn new(mut calls: Vec<Vec<Outcome>>) -> Self {
            calls.reverse();
            Self { outcomes: Mutex::new(calls), asked: Mutex::default() }
        }
    }

    impl Task for Script {
        async fn answer(&self, records: Vec<Fields>) -> Result<Vec<Outcome>, String> {
            self.asked.lock().unwrap().push(records.len());
            self.outcomes.lock().unwrap().pop().ok_or_else(|| "asked once too often".to_owned())
        }
    }

    fn fields(name: &str) -> Fields {
        [("answer".to_owned(), json!(name))].into_iter().collect()
    }

    fn lost() -> Outcome {
        Outcome::Lost("gone".into())
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn only_what_is_open_is_asked_again() {
        let (a, b) = (Outcome::Answered(fields("a")), Outcome::Failed(fields("b")));
        let script = Script::new(vec![
            vec![a.clone(), lost(), Outcome::Busy(Duration::from_secs(1), fields("c"))],
            vec![lost(), Outcome::Answered(fields("c"))],
            vec![b.clone()],
        ]);
        let records = vec![Fields::new(); 3];
        let outcomes = until_answered(&script, &records, PATIENCE).await.unwrap();
        assert_eq!(outcomes, [a, b, Outcome::Answered(fields("c"))]);
        assert_eq!(*script.asked.lock().unwrap(), [3, 2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_is_as_long_as_was_asked_for() {
        let wait = Duration::from_secs(7);
        let script = Script::new(vec![
            vec![Outcome::Busy(wait, fields("later"))],
            vec![Outcome::Answered(fields("now"))],
        ]);
        let begin = Instant::now();
        until_answered(&script, &[Fields::new()], PATIENCE).await.unwrap();
        assert_eq!(begin.elapsed(), wait);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_a_loss_with_its_reason_and_a_refusal_with_a_failed_record() {
        let script = Script::new(vec![vec![lost()]; 100]);
        assert_eq!(until_answered(&script, &[Fields::new()], PATIENCE).await.unwrap_err(), "gone");
        let asked = script.asked.lock().unwrap().len();
        assert!((5..20).contains(&asked), "{asked}");
        let busy = Outcome::Busy(2 * PATIENCE, fields("busy"));
        let script = Script::new(vec![vec![busy]]);
        let outcomes = until_answered(&script, &[Fields::new()], PATIENCE).await.unwrap();
        assert_eq!(outcomes, [Outcome::Failed(fields("busy"))]);
    }
}
