//! The report: targets, results of this crate's policy, and comparisons with the others.

use std::fmt::Write;
use std::ops::Range;
use std::time::Duration;

use crate::{
    BLIP_SERVE, FIFO, POLICIES,
    results::{ResultRow, Results},
    traffic::Traffic,
};

/// Values within this fraction count as equal.
const TOLERANCE: f64 = 0.01;

/// Times within this difference count as equal.
const TIME_TOLERANCE: Duration = Duration::from_micros(500);

type Rate = fn(&Results) -> f64;
type Time = fn(&Results) -> Option<Duration>;

const INTRODUCTION: &str = "\
<!-- Written by `cargo bench -p scheduler --bench simulator`; do not edit. -->
# Scheduler simulation

The simulator compares batching policies on the same traffic and the same simulated devices.
[The scheduler](../design/scheduler.md#simulation) explains the policies and the results. The
[plot](scheduler-simulation.svg) shows the first device.

- Rates are in questions per second, times in milliseconds.
- Percentiles are over all questions. A question that was rejected, dropped or answered after its
  deadline has the time *never*.
- *Load* is in percent of *capacity*, the rate of full batches.
- *In time* is the fraction of interactive clients' questions that were answered before their
  deadline.
- *Ideal* is the goodput of a device that needs no batches and knows the future.
";

/// Returns the report in Markdown.
pub(crate) fn markdown(rows: &[ResultRow]) -> String {
    let mut text = INTRODUCTION.to_owned();
    heading(&mut text, "## Targets");
    table(
        &mut text,
        &["device", "traffic", "load", "target", "value", "ideal", "result"],
        4..6,
        targets(rows),
    );
    let mut devices: Vec<&str> = rows.iter().map(|row| row.device.as_str()).collect();
    devices.dedup();
    for device in devices {
        let rows: Vec<&ResultRow> = rows.iter().filter(|row| row.device == device).collect();
        heading(&mut text, &format!("## {device}"));
        heading(&mut text, &format!("### {BLIP_SERVE}"));
        let columns = [
            "traffic",
            "load",
            "capacity",
            "throughput",
            "goodput",
            "p50",
            "p99",
            "interactive p99",
            "in time",
        ];
        table(&mut text, &columns, 2..9, native(&rows).map(results_line));
        let policies: Vec<&str> =
            ["traffic", "load"].into_iter().chain(POLICIES.map(|(name, _)| name)).collect();
        heading(&mut text, "### Goodput by policy, % of capacity");
        let goodput = |row: &ResultRow| format!("{:.1}", 100.0 * row.results.goodput / row.capacity);
        table(&mut text, &policies, 2..7, by_policy(&rows, goodput));
        heading(&mut text, "### Interactive p99 by policy, ms");
        table(&mut text, &policies, 2..7, by_policy(&rows, |row| milliseconds(row.results.interactive_p99)));
        heading(&mut text, &format!("### Values in which another policy is better than {BLIP_SERVE}"));
        let columns = ["traffic", "load", "value", BLIP_SERVE, "best", "policy"];
        table(&mut text, &columns, 3..5, native(&rows).flat_map(|row| better_lines(row, &rows)));
    }
    text
}

/// Writes a heading after a blank line.
fn heading(text: &mut String, heading: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n{heading}");
}

/// Writes a table after a blank line. The columns `numbers` are aligned to the right.
fn table(
    text: &mut String,
    columns: &[&str],
    numbers: Range<usize>,
    lines: impl IntoIterator<Item = Vec<String>>,
) {
    let rule = (0..columns.len()).map(|column| if numbers.contains(&column) { "---:" } else { "---" });
    let head = columns.iter().map(|column| (*column).to_owned());
    let lines = [head.collect(), rule.map(str::to_owned).collect()].into_iter().chain(lines);
    text.push('\n');
    for line in lines {
        let _ = writeln!(text, "| {} |", line.join(" | "));
    }
}

/// Returns the rows of this crate's policy.
fn native<'a>(rows: &[&'a ResultRow]) -> impl Iterator<Item = &'a ResultRow> {
    rows.iter().copied().filter(|row| row.policy == BLIP_SERVE)
}

fn place(row: &ResultRow) -> [String; 2] {
    [row.traffic.name().to_owned(), format!("{:.0} %", 100.0 * row.load)]
}

fn results_line(row: &ResultRow) -> Vec<String> {
    let Results { throughput, goodput, p50, p99, interactive_p99, interactive_in_time } = row.results;
    let values = [
        format!("{:.0}", row.capacity),
        format!("{throughput:.1}"),
        format!("{goodput:.1}"),
        milliseconds(p50),
        milliseconds(p99),
        milliseconds(interactive_p99),
        format!("{:.1} %", 100.0 * interactive_in_time),
    ];
    place(row).into_iter().chain(values).collect()
}

/// Returns a line for each trace, with a value for each policy.
fn by_policy(rows: &[&ResultRow], value: impl Fn(&ResultRow) -> String) -> Vec<Vec<String>> {
    let traces = rows.chunks(POLICIES.len());
    let line = |trace: &[&ResultRow]| {
        let place = trace.first().map(|row| place(row)).into_iter().flatten();
        place.chain(trace.iter().map(|row| value(row))).collect()
    };
    traces.map(line).collect()
}

/// Returns a line for each value in which the best other policy exceeds this crate's.
fn better_lines(native: &ResultRow, rows: &[&ResultRow]) -> Vec<Vec<String>> {
    let others: Vec<&ResultRow> = others(native, rows).collect();
    let mut lines = Vec::new();
    let mut push = |name: &str, value: String, best: String, policy: &str| {
        let values = [name.to_owned(), value, best, policy.to_owned()];
        lines.push(place(native).into_iter().chain(values).collect());
    };
    let rates: [(&str, Rate, f64); 3] = [
        ("throughput", |results| results.throughput, 1.0),
        ("goodput", |results| results.goodput, 1.0),
        ("in time, %", |results| results.interactive_in_time, 100.0),
    ];
    for (name, rate, unit) in rates {
        let value = rate(&native.results);
        let best = others.iter().max_by(|a, b| rate(&a.results).total_cmp(&rate(&b.results)));
        if let Some(best) = best.filter(|best| rate(&best.results) > value * (1.0 + TOLERANCE)) {
            let format = |rate: f64| format!("{:.2}", unit * rate);
            push(name, format(value), format(rate(&best.results)), best.policy);
        }
    }
    let times: [(&str, Time); 3] = [
        ("p50, ms", |results| results.p50),
        ("p99, ms", |results| results.p99),
        ("interactive p99, ms", |results| results.interactive_p99),
    ];
    for (name, time) in times {
        let value = time(&native.results);
        let best =
            others.iter().min_by(|a, b| seconds(time(&a.results)).total_cmp(&seconds(time(&b.results))));
        let is_better = |best: Option<Duration>| {
            seconds(best) * (1.0 + TOLERANCE) + TIME_TOLERANCE.as_secs_f64() < seconds(value)
        };
        if let Some(best) = best.filter(|best| is_better(time(&best.results))) {
            push(name, milliseconds(value), milliseconds(time(&best.results)), best.policy);
        }
    }
    lines
}

/// Returns the rows of the other policies on the same trace.
fn others<'a>(native: &ResultRow, rows: &[&'a ResultRow]) -> impl Iterator<Item = &'a ResultRow> {
    rows.iter().copied().filter(|row| {
        row.device == native.device
            && row.traffic == native.traffic
            && row.load == native.load
            && row.policy != native.policy
    })
}

/// Returns the targets with their results: goodput in overload, and interactive response times.
fn targets(rows: &[ResultRow]) -> Vec<Vec<String>> {
    let rows: Vec<&ResultRow> = rows.iter().collect();
    let mut lines = Vec::new();
    for native in native(&rows) {
        let mut push = |target: &str, value: String, ideal: String, is_met: bool| {
            let result = if is_met { "met" } else { "MISSED" };
            let values = [target.to_owned(), value, ideal, result.to_owned()];
            lines.push([native.device.clone()].into_iter().chain(place(native)).chain(values).collect());
        };
        let fifo = others(native, &rows).find(|row| row.policy == FIFO);
        if let Some(fifo) =
            fifo.filter(|_| native.traffic == Traffic::BulkWithoutDeadlines && native.load == 0.95)
        {
            let ratio = seconds(fifo.results.interactive_p99) / seconds(native.results.interactive_p99);
            let target = "interactive p99 at least 5 times lower than FIFO's";
            push(target, format!("{ratio:.1} times"), String::new(), ratio >= 5.0);
        }
        if native.load == 1.2 {
            let [goodput, ideal] = [native.results.goodput, native.ideal_goodput]
                .map(|goodput| 100.0 * goodput / native.capacity);
            let target = "goodput at least 90 % of capacity";
            push(target, format!("{goodput:.1} %"), format!("{ideal:.1} %"), goodput >= 90.0);
        }
    }
    lines
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
}

fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(f64::INFINITY, |time| time.as_secs_f64())
}
