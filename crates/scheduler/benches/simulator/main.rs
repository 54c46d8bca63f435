//! Compares batching policies on the same traffic and the same device.
//!
//! `cargo run --release -p scheduler --example simulate [-- SERVICE.json]`
//! prints the tables, checks the targets and writes `docs/scheduler-simulation.{md,svg}`.
//! Nothing in it is random twice: the same source gives the same numbers.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod columns;
mod blip_serve;
mod peers;
mod plot;
mod report;
mod simulation;
mod device;
mod trace;

use std::path::{Path, PathBuf};
use std::time::Duration;

use blip_serve::Ours;
use columns::Columns;
use device::{Curve, Device};
use peers::{Fifo, Rule};
use simulation::{Outcome, Policy, play};
use trace::{Arrival, Traffic};

/// Parts of capacity at which everything is compared.
const LOADS: [f64; 4] = [0.5, 0.8, 0.95, 1.2];
/// Questions in a trace.
const QUESTIONS: usize = 20_000;

/// The policies that are compared; ours is the first.
const POLICIES: [(&str, Option<Rule>); 5] = [
    ("ours", None),
    ("first item starts the clock (10 ms)", Some(Rule::FirstItemClock(Duration::from_millis(10)))),
    ("preferred size 8, 16, 32 + 10 ms", Some(Rule::PreferredSize(&[8, 16, 32], Duration::from_millis(10)))),
    ("pull when free, FIFO", Some(Rule::PullWhenFree)),
    ("no batching", Some(Rule::NoBatching)),
];

/// One policy on one trace.
struct Row {
    curve: String,
    traffic: Traffic,
    load: f64,
    policy: &'static str,
    capacity: f64,
    /// Goodput that no policy can exceed on this trace.
    bound: f64,
    columns: Columns,
}

/// A device without batches that answers one question after the other at full capacity and takes only
/// what it will answer in time. For questions that cost the same and wait the same this is the best there is.
fn bound(trace: &[Arrival], capacity: f64) -> f64 {
    let each = Duration::from_secs_f64(1.0 / capacity);
    let mut free = Duration::ZERO;
    let mut outcome = Outcome { answered: Vec::new(), end: Duration::ZERO };
    for arrival in trace {
        let done = free.max(arrival.at) + each;
        let taken = arrival.deadline.is_none_or(|deadline| done <= deadline);
        outcome.answered.push(taken.then_some(done));
        if taken {
            free = done;
        }
    }
    Columns::of(trace, &outcome).goodput
}

fn policy<'a>(rule: Option<Rule>, trace: &'a [Arrival]) -> Box<dyn Policy + 'a> {
    match rule {
        None => Box::new(Ours::new(trace)),
        Some(rule) => Box::new(Fifo::new(rule, trace)),
    }
}

/// Questions a second when there is always a full batch: the whole trace waits at the start.
fn capacity(curve: &Curve, traffic: Traffic) -> f64 {
    let mut trace = traffic.generate(peers::MAX_WAITING, 1000.0, Duration::from_secs(1));
    trace.truncate(peers::MAX_WAITING);
    for arrival in &mut trace {
        arrival.at = Duration::ZERO;
        arrival.deadline = None;
    }
    let outcome = play(&mut Fifo::new(Rule::PullWhenFree, &trace), &mut Device::new(curve), &trace);
    trace.len() as f64 / outcome.end.as_secs_f64()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let service = std::env::args().nth(1).map(PathBuf::from);
    let curves = device::load(&service.unwrap_or_else(|| here.join("benches/simulator/devices.json")))?;
    let mut rows = Vec::new();
    for curve in &curves {
        for traffic in Traffic::ALL {
            let capacity = capacity(curve, traffic);
            for load in LOADS {
                let deadline = Duration::from_millis(curve.deadline_ms);
                let trace = traffic.generate(QUESTIONS, load * capacity, deadline);
                let bound = bound(&trace, capacity);
                for (name, rule) in POLICIES {
                    let mut policy = policy(rule, &trace);
                    let outcome = play(policy.as_mut(), &mut Device::new(curve), &trace);
                    let columns = Columns::of(&trace, &outcome);
                    rows.push(Row {
                        curve: curve.name.clone(),
                        traffic,
                        load,
                        policy: name,
                        capacity,
                        bound,
                        columns,
                    });
                }
            }
        }
    }
    let docs = here.join("../../docs");
    let report = report::markdown(&rows);
    println!("{report}");
    std::fs::write(docs.join("scheduler-simulation.md"), report)?;
    plot::draw(&rows, &docs.join("scheduler-simulation.svg"))?;
    Ok(())
}
