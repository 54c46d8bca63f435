//! Runs side by side.

use std::fmt::Write as _;

use crate::Report;

/// A table of two runs, with the second one's numbers over the first one's.
#[must_use]
pub fn table(first: &Report, second: &Report) -> String {
    let mut text = String::new();
    let width = first.name.len().max(second.name.len()).max(12);
    let _ = writeln!(text, "{:<24} {:>width$} {:>width$}  {:>6}", "", first.name, second.name, "ratio");
    let rows: [(&str, fn(&Report) -> f64); 9] = [
        ("questions/s", |report| report.questions_per_s),
        ("requests/s", |report| report.requests_per_s),
        ("latency mean, ms", |report| report.latency_ms.mean),
        ("latency p50, ms", |report| report.latency_ms.p50),
        ("latency p90, ms", |report| report.latency_ms.p90),
        ("latency p95, ms", |report| report.latency_ms.p95),
        ("latency p99, ms", |report| report.latency_ms.p99),
        ("latency p99.9, ms", |report| report.latency_ms.p999),
        ("questions not answered", |report| report.failed as f64),
    ];
    for (name, read) in rows {
        let (one, other) = (read(first), read(second));
        let ratio = if one > 0.0 { format!("{:.2}", other / one) } else { "-".to_owned() };
        let _ = writeln!(text, "{name:<24} {one:>width$.2} {other:>width$.2}  {ratio:>6}");
    }
    let differing: Vec<_> = first
        .options
        .iter()
        .filter(|(name, value)| second.options.get(*name) != Some(*value))
        .map(|(name, value)| {
            let other = second.options.get(name).map_or("nothing", String::as_str);
            format!("{name} {value} and {other}")
        })
        .collect();
    if !differing.is_empty() {
        let _ = writeln!(text, "run differently: {}", differing.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::run::{Recording, Sample};

    fn report(name: &str, latency_ms: u64, clients: &str) -> Report {
        let sample = Sample {
            due: Duration::ZERO,
            lag: Duration::ZERO,
            latency: Duration::from_millis(latency_ms),
            answered: 1,
            failed: 0,
        };
        let recording = Recording { samples: vec![sample; 10], ..Recording::default() };
        let options = BTreeMap::from([("clients".to_owned(), clients.to_owned())]);
        Report::new(name.to_owned(), options, String::new(), Duration::from_secs(2), &recording)
    }

    #[test]
    fn the_ratio_is_the_second_over_the_first_and_different_options_are_told() {
        let text = table(&report("slow", 8, "4"), &report("fast", 2, "8"));
        let p50: Vec<&str> =
            text.lines().find(|line| line.starts_with("latency p50")).unwrap().split_whitespace().collect();
        assert_eq!(p50, ["latency", "p50,", "ms", "8.00", "2.00", "0.25"]);
        assert!(text.contains("questions not answered") && text.contains("-"), "{text}");
        assert!(text.ends_with("run differently: clients 4 and 8\n"), "{text}");
        assert!(!table(&report("a", 1, "4"), &report("b", 1, "4")).contains("differently"));
    }
}
