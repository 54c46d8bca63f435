//! The times at which requests are due.

use std::{num::NonZeroUsize, thread, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::mpsc, time::Instant};

/// The process that decides when requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ArrivalProcess {
    /// A number of clients, each of which sends its next request when it receives a response.
    ///
    /// It shows the capacity of a server. It hides how long independent clients would wait.
    ClosedLoop {
        /// Number of concurrent clients.
        clients: NonZeroUsize,
    },
    /// A Poisson process: independent clients send requests at an average rate, whether the server
    /// can process them or not.
    Poisson {
        /// Average number of requests per second.
        requests_per_s: f64,
    },
}

/// Returns the arrivals of a Poisson process, as times since its beginning.
pub fn poisson_arrivals(requests_per_s: f64, seed: u64) -> impl Iterator<Item = Duration> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut at = Duration::ZERO;
    std::iter::repeat_with(move || {
        // The random number is below 1, so the logarithm of a positive number is computed.
        let gap = -(1.0 - rng.random::<f64>()).ln() / requests_per_s;
        at += Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX / 2);
        at
    })
}

/// Returns a stream that yields each of the `arrivals` at its time after `begin`.
///
/// A dedicated thread waits for each time, because the timer of the runtime has a resolution of one
/// millisecond.
///
/// # Errors
/// The operating system cannot start the thread.
pub fn arrival_stream(
    begin: Instant,
    arrivals: impl Iterator<Item = Duration> + Send + 'static,
) -> std::io::Result<impl Stream<Item = Instant> + Unpin> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
        for arrival in arrivals {
            let Some(at) = begin.checked_add(arrival) else { return };
            thread::sleep(at.saturating_duration_since(Instant::now()));
            // The receiver is dropped at the end of the run.
            if sender.send(at).is_err() {
                return;
            }
        }
    })?;
    let arrivals =
        stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    Ok(arrivals.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_arrivals_have_rate_and_variance_of_process() {
        let times: Vec<f64> = poisson_arrivals(200.0, 7).take(20_000).map(|at| at.as_secs_f64()).collect();
        let last = times[times.len() - 1];
        assert!((20_000.0 / last - 200.0).abs() < 6.0, "{last}");
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The standard deviation of exponential gaps equals their mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[tokio::test]
    async fn arrivals_come_in_order_and_never_early() {
        let begin = Instant::now();
        let arrivals = (1..=20).map(|number| Duration::from_micros(200 * number));
        let received: Vec<Instant> = arrival_stream(begin, arrivals.clone())
            .unwrap()
            .map(|at| {
                assert!(at <= Instant::now());
                at
            })
            .collect()
            .await;
        assert_eq!(received, arrivals.map(|arrival| begin + arrival).collect::<Vec<_>>());
    }
}
