//! The tables, and whether the targets are met.

use std::fmt::Write;
use std::time::Duration;

use crate::Row;
use crate::trace::Traffic;

/// Values this close count as equal: a hundredth, or half a millisecond.
const EQUAL: f64 = 0.01;
const EQUAL_TIME: Duration = Duration::from_micros(500);

pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "<!-- Written by `cargo run --release -p scheduler --example simulate`; do not edit. -->\n\
         # Batching policies on the same traffic and the same device\n\n\
         Rates in questions a second, times in milliseconds. Percentiles are of all questions asked: one that was\n\
         refused, dropped or answered too late took for ever (\"never\"). In time: part of the interactive clients'\n\
         questions answered before their deadline. How it is made: `docs/scheduler.md`.\n",
    );
    let mut last = None;
    for row in rows {
        let heading = (&row.curve, row.traffic.name(), (row.load * 100.0).round());
        if last.as_ref() != Some(&heading) {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n## {}: {} at {:.0} % of {:.0} a second\n\n\
                 | policy | throughput | goodput | p50 | p99 | interactive p99 | in time |\n\
                 |---|---:|---:|---:|---:|---:|---:|\n",
                row.curve, heading.1, heading.2, row.capacity,
            );
            last = Some(heading);
        }
        let columns = &row.columns;
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {} | {} | {} | {:.1} % |",
            row.policy,
            columns.throughput,
            columns.goodput,
            ms(columns.p50),
            ms(columns.p99),
            ms(columns.interactive_p99),
            100.0 * columns.interactive_in_time,
        );
    }
    text.push_str("\n# Targets\n\n");
    for line in targets(rows) {
        let _ = writeln!(text, "- {line}");
    }
    text
}

fn ms(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
}

fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(f64::INFINITY, |time| time.as_secs_f64())
}

fn targets(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for ours in rows.iter().filter(|row| row.policy == "ours") {
        let rivals = || {
            rows.iter().filter(|row| {
                row.curve == ours.curve
                    && row.traffic == ours.traffic
                    && row.load == ours.load
                    && row.policy != "ours"
            })
        };
        let place = format!("{}, {}, {:.0} %", ours.curve, ours.traffic.name(), ours.load * 100.0);
        for worse in columns_where_another_is_better(ours, rivals()) {
            lines.push(format!("not best: {place}: {worse}"));
        }
        let fifo = rivals().find(|row| row.policy == "pull when free, FIFO");
        if let Some(fifo) = fifo.filter(|_| ours.traffic == Traffic::PatientBulk && ours.load == 0.95) {
            let ratio = seconds(fifo.columns.interactive_p99) / seconds(ours.columns.interactive_p99);
            let verdict = if ratio >= 5.0 { "met" } else { "MISSED" };
            lines.push(format!(
                "{verdict}: {place}: interactive p99 is {ratio:.1} times lower than FIFO's (target 5)"
            ));
        }
        if ours.load == 1.2 {
            let (part, bound) =
                (100.0 * ours.columns.goodput / ours.capacity, 100.0 * ours.bound / ours.capacity);
            let verdict = if part >= 90.0 { "met" } else { "MISSED" };
            lines.push(format!(
                "{verdict}: {place}: goodput is {part:.1} % of capacity (target 90; without batches and with \
                 foresight {bound:.1})"
            ));
        }
    }
    lines
}

fn columns_where_another_is_better<'a>(ours: &Row, rivals: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let mut worse = Vec::new();
    let own = &ours.columns;
    for rival in rivals {
        let other = &rival.columns;
        let rates = [
            ("throughput", own.throughput, other.throughput),
            ("goodput", own.goodput, other.goodput),
            ("in time", own.interactive_in_time, other.interactive_in_time),
        ];
        for (name, own, other) in rates {
            if other > own * (1.0 + EQUAL) {
                worse.push(format!("{name} {own:.3}, {other:.3} by \"{}\"", rival.policy));
            }
        }
        let times = [
            ("p50", own.p50, other.p50),
            ("p99", own.p99, other.p99),
            ("interactive p99", own.interactive_p99, other.interactive_p99),
        ];
        for (name, own, other) in times {
            if seconds(other) * (1.0 + EQUAL) + EQUAL_TIME.as_secs_f64() < seconds(own) {
                worse.push(format!("{name} {} ms, {} ms by \"{}\"", ms(own), ms(other), rival.policy));
            }
        }
    }
    worse
}
