//! Repeats records until each one has a final result.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

use crate::{
    progress::WaitTimes,
    record::Fields,
    task::{RecordResult, Task},
};

/// Delay before the first retry. It doubles with each retry.
const MIN_BACKOFF: Duration = Duration::from_millis(250);

/// Longest delay before a retry.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Processes `records` and retries those whose result is busy or unavailable.
///
/// Retries end `retry_timeout` after the first such result. `waits` receives the pauses.
pub(crate) async fn process_with_retries(
    task: &impl Task,
    records: &[Fields],
    retry_timeout: Duration,
    waits: &WaitTimes,
) -> Result<Vec<RecordResult>, String> {
    let mut final_results: Vec<Option<RecordResult>> = vec![None; records.len()];
    let (mut backoff, mut retry_until) = (MIN_BACKOFF, None);
    loop {
        let open = final_results.iter().enumerate().filter(|(_, result)| result.is_none());
        let open: Vec<usize> = open.map(|(index, _)| index).collect();
        if open.is_empty() {
            return Ok(final_results.into_iter().flatten().collect());
        }
        let open_records = open.iter().filter_map(|index| records.get(*index).cloned()).collect();
        let results = task.process(open_records).await?;
        let now = Instant::now();
        let mut delay = Duration::ZERO;
        for (index, result) in open.into_iter().zip(results) {
            let Some(final_result) = final_results.get_mut(index) else { continue };
            let can_retry = |delay: Duration, retry_until: &mut Option<Instant>| {
                now + delay <= *retry_until.get_or_insert(now + retry_timeout)
            };
            match result {
                RecordResult::Busy(retry_after, _)
                    if can_retry(retry_after.max(backoff), &mut retry_until) =>
                {
                    delay = delay.max(retry_after);
                }
                RecordResult::Unavailable(_) if can_retry(backoff, &mut retry_until) => {}
                RecordResult::Busy(_, fields) => *final_result = Some(RecordResult::Failed(fields)),
                RecordResult::Unavailable(cause) => return Err(cause),
                result => *final_result = Some(result),
            }
        }
        let open = final_results.iter().filter(|result| result.is_none()).count();
        if open > 0 {
            // The jitter spreads the retries of concurrent groups.
            let jitter = rand::rng().random_range(0.75..1.25);
            let pause = delay.max(backoff.mul_f64(jitter));
            waits.add_retry(pause, open);
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    /// Returns scripted results and records the number of records of each call.
    struct ScriptedTask {
        results: Mutex<Vec<Vec<RecordResult>>>,
        calls: Mutex<Vec<usize>>,
    }

    impl ScriptedTask {
        fn new(mut results: Vec<Vec<RecordResult>>) -> Self {
            results.reverse();
            Self { results: Mutex::new(results), calls: Mutex::default() }
        }
    }

    impl Task for ScriptedTask {
        async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
            self.calls.lock().unwrap().push(records.len());
            self.results.lock().unwrap().pop().ok_or_else(|| "one call too many".to_owned())
        }
    }

    fn fields(name: &str) -> Fields {
        [("answer".to_owned(), json!(name))].into_iter().collect()
    }

    fn unavailable() -> RecordResult {
        RecordResult::Unavailable("gone".into())
    }

    const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn only_open_records_are_retried() {
        let (a, b) = (RecordResult::Answered(fields("a")), RecordResult::Failed(fields("b")));
        let task = ScriptedTask::new(vec![
            vec![a.clone(), unavailable(), RecordResult::Busy(Duration::from_secs(1), fields("c"))],
            vec![unavailable(), RecordResult::Answered(fields("c"))],
            vec![b.clone()],
        ]);
        let records = vec![Fields::new(); 3];
        let results =
            process_with_retries(&task, &records, RETRY_TIMEOUT, &WaitTimes::default()).await.unwrap();
        assert_eq!(results, [a, b, RecordResult::Answered(fields("c"))]);
        assert_eq!(*task.calls.lock().unwrap(), [3, 2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn busy_record_is_retried_after_requested_delay() {
        let delay = Duration::from_secs(7);
        let task = ScriptedTask::new(vec![
            vec![RecordResult::Busy(delay, fields("later"))],
            vec![RecordResult::Answered(fields("now"))],
        ]);
        let begin = Instant::now();
        process_with_retries(&task, &[Fields::new()], RETRY_TIMEOUT, &WaitTimes::default()).await.unwrap();
        assert_eq!(begin.elapsed(), delay);
    }

    /// An unavailable task then ends the run. A busy record fails.
    #[tokio::test(start_paused = true)]
    async fn retries_end_at_the_timeout() {
        let task = ScriptedTask::new(vec![vec![unavailable()]; 100]);
        let error = process_with_retries(&task, &[Fields::new()], RETRY_TIMEOUT, &WaitTimes::default())
            .await
            .unwrap_err();
        assert_eq!(error, "gone");
        let calls = task.calls.lock().unwrap().len();
        assert!((5..20).contains(&calls), "{calls}");
        let busy = RecordResult::Busy(2 * RETRY_TIMEOUT, fields("busy"));
        let task = ScriptedTask::new(vec![vec![busy]]);
        let results = process_with_retries(&task, &[Fields::new()], RETRY_TIMEOUT, &WaitTimes::default())
            .await
            .unwrap();
        assert_eq!(results, [RecordResult::Failed(fields("busy"))]);
    }
}
