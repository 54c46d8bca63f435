//! What a run waits for. It shows which part of the work bounds its rate.

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use serde_json::Value;
use tokio::time::Instant;

use crate::record::Fields;

/// Times of the engine in the `timing` of a result.
const ENGINE_TIMES: [&str; 4] = ["queue_ms", "vision_ms", "text_ms", "decode_ms"];

/// Measures how long a run waits for input, for results and for its output.
///
/// At each moment a run waits for one of them. The wait for results is divided by what the results
/// in flight wait for, which their `timing` shows.
#[derive(Debug, Default)]
pub(crate) struct WaitTimes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What the run waits for, and since when. `None` before its beginning.
    current: Option<(Wait, Instant)>,
    input: Duration,
    results: Duration,
    output: Duration,
    /// Whether more records could be in flight, but none is ready.
    is_input_missing: bool,
    /// Time of all results in each stage, in milliseconds.
    decoding_ms: f64,
    engine_ms: f64,
    retries_ms: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Input,
    Results,
    Output,
}

impl WaitTimes {
    /// Returns `input`, and observes whether it has an item when it is polled.
    pub(crate) fn watch_input<'a, S: Stream + 'a>(
        &'a self,
        input: S,
    ) -> impl Stream<Item = S::Item> + use<'a, S> {
        let mut input = Box::pin(input);
        stream::poll_fn(move |context| {
            let polled = input.as_mut().poll_next(context);
            self.state().is_input_missing = polled.is_pending();
            polled
        })
    }

    /// Waits for the next item of `results`, which poll the watched input. The time until the next
    /// call counts as writing.
    pub(crate) fn next<'a, S: Stream + Unpin>(
        &'a self,
        results: &'a mut S,
    ) -> impl Future<Output = Option<S::Item>> + Unpin + use<'a, S> {
        poll_fn(move |context| {
            self.before_poll();
            let polled = results.poll_next_unpin(context);
            self.after_poll(&polled);
            polled
        })
    }

    fn before_poll(&self) {
        let mut state = self.state();
        // The input is not polled if no place in flight is free.
        state.is_input_missing = false;
        if !matches!(state.current, Some((Wait::Input | Wait::Results, _))) {
            state.switch(Wait::Results);
        }
    }

    fn after_poll<T>(&self, polled: &Poll<T>) {
        let mut state = self.state();
        let wait = match polled {
            Poll::Ready(_) => Wait::Output,
            Poll::Pending if state.is_input_missing => Wait::Input,
            Poll::Pending => Wait::Results,
        };
        state.switch(wait);
    }

    /// Adds the times of a result, from its `timing`.
    pub(crate) fn add_result(&self, fields: &Fields) {
        let Some(timing) = fields.get("timing") else { return };
        let milliseconds = |name: &str| timing.get(name).and_then(Value::as_f64).unwrap_or_default();
        let engine: f64 = ENGINE_TIMES.into_iter().map(milliseconds).sum();
        let mut state = self.state();
        state.engine_ms += engine;
        // The rest is fetching, decoding and scaling, and the wait for a thread that does it.
        state.decoding_ms += (milliseconds("total_ms") - engine).max(0.0);
    }

    /// Adds a pause of `records` records before they are sent again.
    pub(crate) fn add_retry(&self, pause: Duration, records: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a count of records")]
        let records = records as f64;
        self.state().retries_ms += pause.as_secs_f64() * 1e3 * records;
    }

    /// Returns the stages that the run waited for, with their shares of the time in percent. The
    /// largest is first. Shares below one half percent are left out.
    pub(crate) fn shares(&self) -> Vec<(&'static str, f64)> {
        let mut state = self.state();
        if let Some((wait, _)) = state.current {
            state.switch(wait);
        }
        let State { input, results, output, decoding_ms, engine_ms, retries_ms, .. } = *state;
        let total = (input + results + output).as_secs_f64();
        let percent = |wait: Duration| if total > 0.0 { wait.as_secs_f64() / total * 100.0 } else { 0.0 };
        let of_results = decoding_ms + engine_ms + retries_ms;
        let results = percent(results);
        let part = |part: f64| if of_results > 0.0 { results * part / of_results } else { 0.0 };
        let mut shares = vec![
            ("reading", percent(input)),
            ("decoding", part(decoding_ms)),
            ("engine", part(engine_ms)),
            ("retries", part(retries_ms)),
            // The results have no timing.
            ("processing", if of_results > 0.0 { 0.0 } else { results }),
            ("writing", percent(output)),
        ];
        shares.retain(|(_, percent)| *percent >= 0.5);
        shares.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        shares
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the current wait and begins the next one.
    fn switch(&mut self, next: Wait) {
        let now = Instant::now();
        if let Some((wait, since)) = self.current.replace((next, now)) {
            let waited = now.duration_since(since);
            match wait {
                Wait::Input => self.input += waited,
                Wait::Results => self.results += waited,
                Wait::Output => self.output += waited,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;

    fn names(shares: &[(&'static str, f64)]) -> String {
        let shares: Vec<String> = shares.iter().map(|(name, share)| format!("{name} {share:.1}")).collect();
        shares.join(", ")
    }

    async fn pass(milliseconds: u64) {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }

    /// A full pipeline does not poll its input, so the run waits for results.
    #[tokio::test(start_paused = true)]
    async fn wait_is_for_input_only_if_input_is_polled() {
        let waits = WaitTimes::default();
        assert!(waits.shares().is_empty());
        let mut never = stream::pending::<()>();
        assert_eq!(waits.next(&mut never).now_or_never(), None);
        pass(60).await;
        let mut input = Box::pin(waits.watch_input(stream::pending::<()>()));
        assert_eq!(waits.next(&mut input).now_or_never(), None);
        pass(30).await;
        assert_eq!(names(&waits.shares()), "processing 66.7, reading 33.3");
        // The end of the input is nothing to wait for.
        let ended = Box::pin(waits.watch_input(stream::empty::<()>()));
        let mut results = ended.chain(stream::pending());
        assert_eq!(waits.next(&mut results).now_or_never(), None);
        pass(60).await;
        let mut ready = stream::iter([()]);
        assert_eq!(waits.next(&mut ready).now_or_never(), Some(Some(())));
        pass(150).await;
        assert_eq!(names(&waits.shares()), "writing 50.0, processing 40.0, reading 10.0");
    }

    /// The wait for a thread that decodes is in no field but `total_ms`.
    #[tokio::test(start_paused = true)]
    async fn wait_for_results_is_divided_by_their_timing() {
        let waits = WaitTimes::default();
        assert_eq!(waits.next(&mut stream::pending::<()>()).now_or_never(), None);
        pass(1000).await;
        let timing = json!({
            "timing": {
                "total_ms": 100, "fetch_ms": 5, "preprocess_ms": 5, "queue_ms": 20, "vision_ms": 20,
                "text_ms": 5, "decode_ms": 15,
            }
        });
        waits.add_result(timing.as_object().unwrap());
        assert_eq!(names(&waits.shares()), "engine 60.0, decoding 40.0");
        // Neither the result of a cached answer nor a failed record has times of the engine.
        waits.add_result(json!({ "timing": { "total_ms": 20 } }).as_object().unwrap());
        waits.add_result(json!({ "error": "no" }).as_object().unwrap());
        assert_eq!(names(&waits.shares()), "decoding 50.0, engine 50.0");
        waits.add_retry(Duration::from_millis(40), 2);
        assert_eq!(names(&waits.shares()), "retries 40.0, decoding 30.0, engine 30.0");
    }

    #[tokio::test(start_paused = true)]
    async fn small_shares_are_left_out() {
        let waits = WaitTimes::default();
        assert_eq!(waits.next(&mut stream::pending::<()>()).now_or_never(), None);
        pass(996).await;
        assert_eq!(waits.next(&mut stream::iter([()])).now_or_never(), Some(Some(())));
        pass(4).await;
        assert_eq!(names(&waits.shares()), "processing 99.6");
    }
}
