//! Sends the requests of a workload and records the results.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    target::{LoadResult, Target},
    workload::Workload,
};

/// The phases and limits of a load test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Duration of the warm-up, whose requests are not recorded.
    pub warm_up: Duration,
    /// Duration of the measurement after the warm-up. A request is recorded if it is due in it.
    pub measured: Duration,
    /// Maximum number of requests in flight in an open loop. A request beyond it is not sent and
    /// counts as an error.
    pub max_in_flight: usize,
}

/// The record of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The time at which the request was due, since the end of the warm-up.
    pub due: Duration,
    /// The delay between the time at which the request was due and the time at which it was sent.
    pub lag: Duration,
    /// The time from when the request was due until its response was complete.
    pub latency: Duration,
    /// Number of questions with an answer.
    pub answered: u32,
    /// Number of questions with an error.
    pub failed: u32,
}

/// The record of a load test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The requests that were due in the measurement, in the order in which they ended.
    pub samples: Vec<Sample>,
    /// The number of failed questions by reason.
    pub errors: BTreeMap<String, u64>,
}

/// The reason of a request that was not sent because too many were in flight.
pub const NOT_SENT: &str = "NOT_SENT";

/// Records the requests that are due in the measurement.
#[derive(Debug)]
struct Recorder {
    begin: Instant,
    end: Instant,
    recording: Mutex<Recording>,
}

impl Recorder {
    fn new(plan: &LoadPlan) -> Self {
        let begin = Instant::now() + plan.warm_up;
        Self { begin, end: begin + plan.measured, recording: Mutex::default() }
    }

    fn record(&self, due: Instant, sent: Instant, questions: u32, result: LoadResult) {
        if due < self.begin || due >= self.end {
            return;
        }
        let sample = Sample {
            due: due - self.begin,
            lag: sent.saturating_duration_since(due),
            latency: due.elapsed(),
            answered: result.answered,
            failed: questions.saturating_sub(result.answered),
        };
        let mut recording = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
        recording.samples.push(sample);
        for error in result.errors {
            *recording.errors.entry(error).or_default() += 1;
        }
    }

    fn finish(self: Arc<Self>) -> Recording {
        std::mem::take(&mut self.recording.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn send_next<T: Target>(target: &T, workload: &Mutex<Workload>, due: Instant, recorder: &Recorder) {
    let request = workload.lock().unwrap_or_else(PoisonError::into_inner).next_request();
    let questions = u32::try_from(request.questions.len()).unwrap_or(u32::MAX);
    let sent = Instant::now();
    let result = target.send(request).await;
    recorder.record(due, sent, questions, result);
}

/// Sends requests from `clients` concurrent clients, each of which waits for its response.
///
/// The function waits for the requests that are in flight at the end.
pub async fn run_closed_loop<T: Target>(
    target: Arc<T>,
    workload: Workload,
    clients: usize,
    plan: &LoadPlan,
) -> Recording {
    let (recorder, workload) = (Arc::new(Recorder::new(plan)), Arc::new(Mutex::new(workload)));
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (target, workload, recorder) =
            (Arc::clone(&target), Arc::clone(&workload), Arc::clone(&recorder));
        running.spawn(async move {
            while Instant::now() < recorder.end {
                send_next(&*target, &workload, Instant::now(), &recorder).await;
            }
        });
    }
    while running.join_next().await.is_some() {}
    recorder.finish()
}

/// Sends a request at each of `arrivals`, independently of earlier responses.
///
/// The function waits for the requests that are in flight at the end.
pub async fn run_open_loop<T: Target>(
    target: Arc<T>,
    workload: Workload,
    mut arrivals: impl Stream<Item = Instant> + Unpin,
    plan: &LoadPlan,
) -> Recording {
    let (recorder, workload) = (Arc::new(Recorder::new(plan)), Arc::new(Mutex::new(workload)));
    let mut in_flight = JoinSet::new();
    let end = sleep_until(recorder.end);
    let mut end = std::pin::pin!(end);
    loop {
        let due = tokio::select! {
            biased;
            () = &mut end => break,
            due = arrivals.next() => due,
        };
        let Some(due) = due.filter(|due| *due < recorder.end) else { break };
        while in_flight.try_join_next().is_some() {}
        if in_flight.len() >= plan.max_in_flight {
            let request = workload.lock().unwrap_or_else(PoisonError::into_inner).next_request();
            let questions = request.questions.len();
            let result = LoadResult { answered: 0, errors: vec![NOT_SENT.to_owned(); questions] };
            recorder.record(due, Instant::now(), u32::try_from(questions).unwrap_or(u32::MAX), result);
            continue;
        }
        let (target, workload, recorder) =
            (Arc::clone(&target), Arc::clone(&workload), Arc::clone(&recorder));
        in_flight.spawn(async move { send_next(&*target, &workload, due, &recorder).await });
    }
    while in_flight.join_next().await.is_some() {}
    recorder.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures::stream;
    use tokio::time::sleep;

    use super::*;
    use crate::workload::{LoadRequest, WorkloadConfig};

    const PLAN: LoadPlan =
        LoadPlan { warm_up: Duration::from_secs(1), measured: Duration::from_secs(10), max_in_flight: 1000 };

    fn workload() -> Workload {
        let config =
            WorkloadConfig { questions_per_image: 2, reuse: 0.0, pool_images: 1, skew: 0.0, seed: 7 };
        Workload::new(vec![Bytes::from_static(b"a")], vec!["a".to_owned()], config).unwrap()
    }

    /// A server with a fixed response time. If `fails`, it fails one question of each request.
    struct SlowTarget {
        response_time: Duration,
        fails: bool,
        in_flight: AtomicUsize,
        max_in_flight: AtomicUsize,
    }

    impl SlowTarget {
        fn new(response_time: Duration, fails: bool) -> Arc<Self> {
            let (in_flight, max_in_flight) = (AtomicUsize::new(0), AtomicUsize::new(0));
            Arc::new(Self { response_time, fails, in_flight, max_in_flight })
        }
    }

    impl Target for SlowTarget {
        async fn send(&self, request: LoadRequest) -> LoadResult {
            let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            self.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
            sleep(self.response_time).await;
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            let failed = if self.fails { 1 } else { 0 };
            LoadResult {
                answered: u32::try_from(request.questions.len()).unwrap() - failed,
                errors: vec!["BUSY".to_owned(); failed as usize],
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn closed_loop_clients_send_after_each_response() {
        let target = SlowTarget::new(Duration::from_millis(100), false);
        let recording = run_closed_loop(Arc::clone(&target), workload(), 4, &PLAN).await;
        assert_eq!(recording.samples.len(), 4 * 100);
        assert!(recording.samples.iter().all(|sample| sample.latency == Duration::from_millis(100)));
        assert!(recording.samples.iter().all(|sample| (sample.answered, sample.failed) == (2, 0)));
        assert_eq!(target.max_in_flight.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn open_loop_sends_on_time_to_a_slow_server() {
        let target = SlowTarget::new(Duration::from_secs(3), true);
        let begin = Instant::now();
        let arrivals = stream::iter(0_u32..).then(move |number| async move {
            let at = begin + number * Duration::from_millis(100);
            sleep_until(at).await;
            at
        });
        let recording = run_open_loop(Arc::clone(&target), workload(), Box::pin(arrivals), &PLAN).await;
        // Ten requests per second. Those of the warm-up are not recorded.
        assert_eq!(recording.samples.len(), 100);
        assert_eq!(recording.samples[0].due, Duration::ZERO);
        assert!(recording.samples.iter().all(|sample| sample.latency == Duration::from_secs(3)));
        assert_eq!(recording.errors["BUSY"], 100);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_includes_the_lag_of_the_client() {
        let target = SlowTarget::new(Duration::from_millis(10), false);
        let due = Instant::now() + PLAN.warm_up;
        // The client is busy for two seconds.
        let arrivals = stream::once(async move {
            sleep_until(due + Duration::from_secs(2)).await;
            due
        });
        let recording = run_open_loop(target, workload(), Box::pin(arrivals), &PLAN).await;
        let [sample] = recording.samples[..] else { panic!("{recording:?}") };
        assert_eq!(sample.lag, Duration::from_secs(2));
        assert_eq!(sample.latency, Duration::from_millis(2010));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_in_flight_limit_are_not_sent() {
        let target = SlowTarget::new(Duration::from_secs(3600), false);
        let plan = LoadPlan { max_in_flight: 3, ..PLAN };
        let begin = Instant::now() + plan.warm_up;
        let arrivals = stream::iter(0_u32..5).then(move |number| async move {
            let at = begin + number * Duration::from_secs(1);
            sleep_until(at).await;
            at
        });
        let recording = run_open_loop(target, workload(), Box::pin(arrivals), &plan).await;
        assert_eq!(recording.errors[NOT_SENT], 4);
        assert_eq!(recording.samples.len(), 5);
    }
}
