//! A table of several reports.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::report::Report;

/// Reads a number from a report.
type ReadNumber = fn(&Report) -> f64;

/// Renders a table with one column per report.
///
/// A table of two reports has a third column: the second value divided by the first. The last rows
/// are the options that differ.
#[must_use]
pub fn compare_reports(reports: &[Report]) -> String {
    let mut text = String::new();
    let width = reports.iter().map(|report| report.name.len()).max().unwrap_or_default().max(12);
    let mut row = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:>width$}")).collect();
        let _ = writeln!(text, "{name:<24}{cells}");
    };
    let pair = if let [first, second] = reports { Some((first, second)) } else { None };
    let names = reports.iter().map(|report| report.name.clone());
    row("", names.chain(pair.map(|_| "ratio".to_owned())).collect());
    let rows: [(&str, ReadNumber); 9] = [
        ("questions/s", |report| report.questions_per_s),
        ("requests/s", |report| report.requests_per_s),
        ("latency mean, ms", |report| report.latency_ms.mean),
        ("latency p50, ms", |report| report.latency_ms.p50),
        ("latency p90, ms", |report| report.latency_ms.p90),
        ("latency p95, ms", |report| report.latency_ms.p95),
        ("latency p99, ms", |report| report.latency_ms.p99),
        ("latency p99.9, ms", |report| report.latency_ms.p999),
        ("questions failed", |report| report.failed as f64),
    ];
    for (name, read) in rows {
        let ratio = pair.map(|(first, second)| match read(first) {
            0.0 => "-".to_owned(),
            value => format!("{:.2}", read(second) / value),
        });
        let cells = reports.iter().map(|report| format!("{:.2}", read(report)));
        row(name, cells.chain(ratio).collect());
    }
    let different_options: BTreeSet<&String> = reports
        .iter()
        .flat_map(|report| &report.options)
        .filter(|(name, value)| reports.iter().any(|other| other.options.get(*name) != Some(*value)))
        .map(|(name, _)| name)
        .collect();
    for name in different_options {
        let values =
            reports.iter().map(|report| report.options.get(name).map_or("-", String::as_str).to_owned());
        row(name, values.collect());
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
    fn two_reports_have_ratio_and_different_options() {
        let text = compare_reports(&[report("slow", 8, "4"), report("fast", 2, "8")]);
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap();
        let cells = |name: &str| row(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cells("latency p50"), ["latency", "p50,", "ms", "8.00", "2.00", "0.25"]);
        assert!(row("questions failed").ends_with('-'));
        assert_eq!(cells("clients"), ["clients", "4", "8"]);
        let same = compare_reports(&[report("a", 1, "4"), report("b", 1, "4"), report("c", 1, "4")]);
        assert!(!same.contains("clients") && !same.contains("ratio"), "{same}");
    }
}
