//! When requests are sent.

use std::{num::NonZeroUsize, thread, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::mpsc, time::Instant};

/// How requests follow one another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many clients, each of which asks again as soon as it has its answer: it shows what a server can do, and hides how
    /// long callers wait who do not ask for the server's convenience.
    Closed {
        /// Clients at a time.
        clients: NonZeroUsize,
    },
    /// So many requests a second on average, as they come from many people who know nothing of one another (a Poisson
    /// process), whether the server keeps up or not.
    Poisson {
        /// Requests a second.
        requests_per_s: f64,
    },
}

/// The moments of a Poisson process, as times since its beginning.
pub fn poisson(requests_per_s: f64, seed: u64) -> impl Iterator<Item = Duration> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut at = Duration::ZERO;
    std::iter::repeat_with(move || {
        // 1 - [0, 1) is never 0, whose logarithm is none.
        let gap = -(1.0 - random.random::<f64>()).ln() / requests_per_s;
        at += Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX / 2);
        at
    })
}

/// `moments` after `begin`, each as it comes. A thread of its own watches the clock: the runtime's timer is a millisecond
/// coarse.
///
/// # Errors
/// The operating system's, if it gives no thread.
pub fn punctual(
    begin: Instant,
    moments: impl Iterator<Item = Duration> + Send + 'static,
) -> std::io::Result<impl Stream<Item = Instant> + Unpin> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::Builder::new().name("pace".to_owned()).spawn(move || {
        for moment in moments {
            let Some(at) = begin.checked_add(moment) else { return };
            thread::sleep(at.saturating_duration_since(Instant::now()));
            // Nobody listens once the run is over.
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
    fn a_poisson_process_has_its_rate_and_gaps_as_uneven_as_they_should_be() {
        let moments: Vec<f64> = poisson(200.0, 7).take(20_000).map(|moment| moment.as_secs_f64()).collect();
        let last = moments[moments.len() - 1];
        assert!((20_000.0 / last - 200.0).abs() < 6.0, "{last}");
        let gaps: Vec<f64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Of exponential gaps the deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[tokio::test]
    async fn moments_come_in_order_and_none_too_early() {
        let begin = Instant::now();
        let moments = (1..=20).map(|number| Duration::from_micros(200 * number));
        let arrivals: Vec<Instant> = punctual(begin, moments.clone())
            .unwrap()
            .map(|at| {
                assert!(at <= Instant::now());
                at
            })
            .collect()
            .await;
        assert_eq!(arrivals, moments.map(|moment| begin + moment).collect::<Vec<_>>());
    }
}
