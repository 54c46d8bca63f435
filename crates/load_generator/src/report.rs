//! What became of a run, in numbers.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::run::Recording;

/// A run, as it is written to a file and read again.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// What was run, for people.
    pub name: String,
    /// How it was run: option by option.
    pub options: BTreeMap<String, String>,
    /// When it began, as an HTTP date.
    pub began: String,
    /// Time that counts, in seconds.
    pub seconds: f64,
    /// Requests that were due in that time.
    pub requests: u64,
    /// Questions answered.
    pub answered: u64,
    /// Questions not answered.
    pub failed: u64,
    /// Why, with how many each.
    pub errors: BTreeMap<String, u64>,
    /// Questions answered a second.
    pub questions_per_s: f64,
    /// Requests a second of which every question was answered.
    pub requests_per_s: f64,
    /// Latency of those, in milliseconds, from the moment at which they were due.
    pub latency_ms: Latency,
    /// How late the client itself was with the later ones: the 99th percentile, in milliseconds. A large one says that the
    /// client, not the server, was measured.
    pub client_lag_p99_ms: f64,
    /// Questions answered of the requests due in the second half, over those in the first: far from 1, and the run was not
    /// steady.
    pub drift: f64,
    /// Questions answered of the requests due in each second.
    pub per_second: Vec<u64>,
    /// The latency, in milliseconds, that 0, 1, ... 100 percent stay below.
    pub percentiles_ms: Vec<f64>,
}

/// Latency in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Latency {
    /// The mean.
    pub mean: f64,
    /// Half stay below.
    pub p50: f64,
    /// 90 % stay below.
    pub p90: f64,
    /// 95 % stay below.
    pub p95: f64,
    /// 99 % stay below.
    pub p99: f64,
    /// 99.9 % stay below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// The share within which a run counts as steady.
const STEADY: f64 = 0.1;

impl Report {
    /// The numbers of a recording of `measured` time.
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
        let whole: Vec<_> = samples.iter().filter(|sample| sample.failed == 0).collect();
        let latencies = sorted(whole.iter().map(|sample| sample.latency));
        let lags = sorted(samples.iter().map(|sample| sample.lag));
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
            requests_per_s: whole.len() as f64 / seconds,
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

    /// Whether the second half went as the first one did.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        (self.drift - 1.0).abs() <= STEADY
    }
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<f64> {
    let mut milliseconds: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
    milliseconds.sort_by(f64::total_cmp);
    milliseconds
}

/// The smallest of these, in rising order, that a part `quantile` of them does not exceed; 0 if there are none.
fn quantile(rising: &[f64], quantile: f64) -> f64 {
    let rank = (quantile * rising.len() as f64).ceil() as usize;
    rising.get(rank.max(1) - 1).copied().unwrap_or_default()
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
        write!(f, "  {} questions answered, {} not", self.answered, self.failed)?;
        for (reason, count) in &self.errors {
            write!(f, ", {count} {reason}")?;
        }
        writeln!(f)?;
        if self.client_lag_p99_ms > self.latency_ms.p50 / 10.0 {
            writeln!(
                f,
                "  beware: the client sent requests up to {:.2} ms late (p99), so that it is a part of what was measured",
                self.client_lag_p99_ms
            )?;
        }
        if !self.is_steady() {
            writeln!(
                f,
                "  beware: not steady, the second half answered {:.2} times what the first one did",
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
    fn what_failed_is_neither_throughput_nor_latency() {
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
        assert!(text.contains("100 questions answered, 1 not, 1 BUSY") && !text.contains("beware"), "{text}");
    }

    #[test]
    fn a_server_that_slows_down_is_not_steady() {
        let samples = (0..100).map(|number| sample(if number < 70 { 10 } else { 6_000 }, 1, 0)).collect();
        let report = report(samples);
        assert!(!report.is_steady());
        assert!(report.to_string().contains("not steady, the second half answered 0.43 times"), "{report}");
    }

    #[test]
    fn a_run_without_an_answer_is_all_zeros() {
        let report = report(Vec::new());
        assert_eq!(report.latency_ms, Latency::default());
        assert!(!report.is_steady());
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = report(vec![sample(5, 3, 0)]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    proptest! {
        #[test]
        fn a_quantile_is_one_of_the_values_and_as_many_stay_below(
            values in proptest::collection::vec(0_u32..1000, 1..200),
            part in 0.0_f64..=1.0,
        ) {
            let mut rising: Vec<f64> = values.into_iter().map(f64::from).collect();
            rising.sort_by(f64::total_cmp);
            let found = quantile(&rising, part);
            let below = rising.iter().filter(|value| **value <= found).count();
            prop_assert!(below as f64 >= part * rising.len() as f64);
            let under = rising.iter().filter(|value| **value < found).count();
            prop_assert!((under as f64) < (part * rising.len() as f64).max(1.0));
        }
    }
}
