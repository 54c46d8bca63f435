//! The summary of a load test.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::run::Recording;

/// The summary of a load test, and the format of report files.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// The name of the run.
    pub name: String,
    /// The options of the run.
    pub options: BTreeMap<String, String>,
    /// The time at which the run began, as an HTTP date.
    pub began: String,
    /// The duration of the measurement, in seconds.
    pub seconds: f64,
    /// Requests that were due in the measurement.
    pub requests: u64,
    /// Questions with an answer.
    pub answered: u64,
    /// Questions with an error.
    pub failed: u64,
    /// The number of failed questions by reason.
    pub errors: BTreeMap<String, u64>,
    /// Questions with an answer per second.
    pub questions_per_s: f64,
    /// Requests without a failed question per second.
    pub requests_per_s: f64,
    /// Latency of these requests, in milliseconds, from the time at which they were due.
    pub latency_ms: Latency,
    /// Delay between the time at which a request was due and the time at which the client sent it:
    /// the 99th percentile, in milliseconds. A large value means that the client limited the run.
    pub client_lag_p99_ms: f64,
    /// Questions answered of the requests due in the second half, divided by those in the first
    /// half. A value far from 1 means that the run was unsteady.
    pub drift: f64,
    /// Questions answered of the requests due in each second.
    pub per_second: Vec<u64>,
    /// The percentiles 0 to 100 of the latency, in milliseconds.
    pub percentiles_ms: Vec<f64>,
}

/// The distribution of latency, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Maximum.
    pub max: f64,
}

/// Largest relative drift of a steady run.
const MAX_STEADY_DRIFT: f64 = 0.1;

impl Report {
    /// Summarises a `recording` of the duration `measured`.
    #[must_use]
    pub fn new(
        name: String,
        options: BTreeMap<String, String>,
        began: String,
        measured: Duration,
        recording: &Recording,
    ) -> Self {
        let seconds = measured.as_secs_f64();
        let samples = &recording.samples;
        let answered: u64 = samples.iter().map(|sample| u64::from(sample.answered)).sum();
        let failed: u64 = samples.iter().map(|sample| u64::from(sample.failed)).sum();
        let successful: Vec<_> = samples.iter().filter(|sample| sample.failed == 0).collect();
        let latencies = sorted_ms(successful.iter().map(|sample| sample.latency));
        let lags = sorted_ms(samples.iter().map(|sample| sample.lag));
        let mut per_second = vec![0; measured.as_secs_f64().ceil() as usize];
        let (mut first, mut second) = (0_u64, 0_u64);
        for sample in samples {
            if let Some(count) = per_second.get_mut(sample.due.as_secs() as usize) {
                *count += u64::from(sample.answered);
            }
            *(if sample.due < measured / 2 { &mut first } else { &mut second }) += u64::from(sample.answered);
        }
        let mean = latencies.iter().sum::<f64>() / latencies.len().max(1) as f64;
        Self {
            name,
            options,
            began,
            seconds,
            requests: samples.len() as u64,
            answered,
            failed,
            errors: recording.errors.clone(),
            questions_per_s: answered as f64 / seconds,
            requests_per_s: successful.len() as f64 / seconds,
            latency_ms: Latency {
                mean,
                p50: quantile(&latencies, 0.5),
                p90: quantile(&latencies, 0.9),
                p95: quantile(&latencies, 0.95),
                p99: quantile(&latencies, 0.99),
                p999: quantile(&latencies, 0.999),
                max: quantile(&latencies, 1.0),
            },
            client_lag_p99_ms: quantile(&lags, 0.99),
            drift: if first == 0 { 0.0 } else { second as f64 / first as f64 },
            per_second,
            percentiles_ms: (0..=100)
                .map(|percent| quantile(&latencies, f64::from(percent) / 100.0))
                .collect(),
        }
    }

    /// Returns whether the two halves of the run answered about as many questions.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        (self.drift - 1.0).abs() <= MAX_STEADY_DRIFT
    }
}

fn sorted_ms(times: impl Iterator<Item = Duration>) -> Vec<f64> {
    let mut milliseconds: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
    milliseconds.sort_by(f64::total_cmp);
    milliseconds
}

/// Returns the smallest value that at least a share `quantile` of the `sorted` values does not
/// exceed.
///
/// Returns 0 for an empty slice.
fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { mean, p50, p90, p95, p99, p999, max } = self.latency_ms;
        writeln!(f, "{}", self.name)?;
        writeln!(
            f,
            "  {:.1} questions/s answered, {:.1} requests/s, over {:.0} s",
            self.questions_per_s, self.requests_per_s, self.seconds
        )?;
        writeln!(
            f,
            "  latency ms: mean {mean:.2}, p50 {p50:.2}, p90 {p90:.2}, p95 {p95:.2}, p99 {p99:.2}, p99.9 {p999:.2}, max {max:.2}"
        )?;
        write!(f, "  {} questions answered, {} failed", self.answered, self.failed)?;
        for (reason, count) in &self.errors {
            write!(f, ", {count} {reason}")?;
        }
        writeln!(f)?;
        if self.client_lag_p99_ms > self.latency_ms.p50 / 10.0 {
            writeln!(
                f,
                "  warning: the client sent requests up to {:.2} ms late (p99), which affects the results",
                self.client_lag_p99_ms
            )?;
        }
        if !self.is_steady() {
            writeln!(
                f,
                "  warning: unsteady run, the second half answered {:.2} times as many questions as the first",
                self.drift
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::Sample;

    fn sample(due_ms: u64, latency_ms: u64, failed: u32) -> Sample {
        Sample {
            due: Duration::from_millis(due_ms),
            lag: Duration::ZERO,
            latency: Duration::from_millis(latency_ms),
            answered: 1 - failed,
            failed,
        }
    }

    fn report(samples: Vec<Sample>) -> Report {
        let errors = BTreeMap::from([("BUSY".to_owned(), 1)]);
        let recording = Recording { samples, errors };
        let (name, began) = ("a run".to_owned(), "Sat, 31 Jan 2026 12:00:00 GMT".to_owned());
        Report::new(name, BTreeMap::new(), began, Duration::from_secs(10), &recording)
    }

    #[test]
    fn failed_questions_count_in_neither_rate_nor_latency() {
        let mut samples: Vec<Sample> = (1..=100).map(|number| sample(100 * number - 1, number, 0)).collect();
        samples.push(sample(50, 9_999, 1));
        let report = report(samples);
        assert_eq!((report.requests, report.answered, report.failed), (101, 100, 1));
        assert_eq!((report.questions_per_s, report.requests_per_s), (10.0, 10.0));
        let Latency { mean, p50, p99, max, .. } = report.latency_ms;
        assert_eq!((mean, p50, p99, max), (50.5, 50.0, 99.0, 100.0));
        assert_eq!(report.per_second, [10; 10]);
        assert!(report.is_steady());
        let text = report.to_string();
        assert!(
            text.contains("100 questions answered, 1 failed, 1 BUSY") && !text.contains("warning"),
            "{text}"
        );
    }

    #[test]
    fn run_that_slows_down_is_unsteady() {
        let samples = (0..100).map(|number| sample(if number < 70 { 10 } else { 6_000 }, 1, 0)).collect();
        let report = report(samples);
        assert!(!report.is_steady());
        assert!(report.to_string().contains("unsteady run, the second half answered 0.43 times"), "{report}");
    }

    #[test]
    fn run_without_samples_is_all_zeros() {
        let report = report(Vec::new());
        assert_eq!(report.latency_ms, Latency::default());
        assert!(!report.is_steady());
    }

    #[test]
    fn report_survives_serialization() {
        let report = report(vec![sample(5, 3, 0)]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    proptest! {
        #[test]
        fn quantile_is_smallest_value_that_covers_its_share(
            values in proptest::collection::vec(0_u32..1000, 1..200),
            share in 0.0_f64..=1.0,
        ) {
            let mut sorted: Vec<f64> = values.into_iter().map(f64::from).collect();
            sorted.sort_by(f64::total_cmp);
            let value = quantile(&sorted, share);
            let covered = sorted.iter().filter(|other| **other <= value).count();
            prop_assert!(covered as f64 >= share * sorted.len() as f64);
            let below = sorted.iter().filter(|other| **other < value).count();
            prop_assert!((below as f64) < (share * sorted.len() as f64).max(1.0));
        }
    }
}
