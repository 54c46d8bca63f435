//! Compares batching policies on the same traffic and the same simulated device.
//!
//! `cargo bench -p scheduler --bench simulator [-- DEVICES.json]` writes
//! `docs/reference/scheduler-simulation.{md,svg}`. Traffic is pseudo-random with a fixed seed, so
//! the same source writes the same numbers.

mod report;
mod plot;
mod blip_serve;
mod fifo;
mod simulation;
mod results;
mod device;
mod traffic;

use std::path::{Path, PathBuf};
use std::time::Duration;

use blip_serve::BlipServe;
use device::{Device, DeviceSpec};
use fifo::{BatchRule, Fifo, MAX_WAITING};
use results::{ResultRow, Results};
use simulation::{Answers, Policy, simulate};
use traffic::{Arrival, Traffic};

/// Loads in fractions of the capacity.
const LOADS: [f64; 4] = [0.5, 0.8, 0.95, 1.2];

/// Questions of a trace.
const QUESTIONS: usize = 20_000;

/// The policy of this crate.
const BLIP_SERVE: &str = "blip-serve";

/// First in, first out, with whatever waits.
const FIFO: &str = "FIFO when free";

/// The policies. None is that of this crate, which is the first.
const POLICIES: [(&str, Option<BatchRule>); 5] = [
    (BLIP_SERVE, None),
    ("timer from first item, 10 ms", Some(BatchRule::TimerFromFirstItem(Duration::from_millis(10)))),
    (
        "preferred sizes 8, 16, 32, 10 ms",
        Some(BatchRule::PreferredSizes(&[8, 16, 32], Duration::from_millis(10))),
    ),
    (FIFO, Some(BatchRule::WhenFree)),
    ("no batching", Some(BatchRule::NoBatching)),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    arguments.retain(|argument| !argument.starts_with("--"));
    if !is_bench {
        // `cargo test --all-targets` runs this program too.
        return Ok(());
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let devices = arguments.first().map(PathBuf::from);
    let devices = device::load(&devices.unwrap_or_else(|| package.join("benches/simulator/devices.json")))?;
    let mut rows = Vec::new();
    for device in &devices {
        for traffic in Traffic::ALL {
            let capacity = capacity(device, traffic);
            for load in LOADS {
                let deadline = Duration::from_millis(device.deadline_ms);
                let trace = traffic.generate(QUESTIONS, load * capacity, deadline);
                let ideal_goodput = ideal_goodput(&trace, capacity);
                for (policy, rule) in POLICIES {
                    let answers =
                        simulate(new_policy(rule, &trace).as_mut(), &mut Device::new(device), &trace);
                    rows.push(ResultRow {
                        device: device.name.clone(),
                        traffic,
                        load,
                        policy,
                        capacity,
                        ideal_goodput,
                        results: Results::new(&trace, &answers),
                    });
                }
            }
        }
    }
    let folder = package.join("../../docs/reference");
    std::fs::write(folder.join("scheduler-simulation.md"), report::markdown(&rows))?;
    plot::draw(&rows, &folder.join("scheduler-simulation.svg"))
}

fn new_policy<'a>(rule: Option<BatchRule>, trace: &'a [Arrival]) -> Box<dyn Policy + 'a> {
    match rule {
        None => Box::new(BlipServe::new(trace)),
        Some(rule) => Box::new(Fifo::new(rule, trace)),
    }
}

/// Returns the questions per second of full batches: all questions wait at the start.
fn capacity(device: &DeviceSpec, traffic: Traffic) -> f64 {
    let mut trace = traffic.generate(MAX_WAITING, 1000.0, Duration::from_secs(1));
    trace.truncate(MAX_WAITING);
    for arrival in &mut trace {
        arrival.at = Duration::ZERO;
        arrival.deadline = None;
    }
    let answers = simulate(&mut Fifo::new(BatchRule::WhenFree, &trace), &mut Device::new(device), &trace);
    trace.len() as f64 / answers.end.as_secs_f64()
}

/// Returns the goodput of a device that needs no batches and knows the future.
///
/// It answers one question after the other at full capacity, and takes only those that it answers
/// in time. For questions of equal cost and equal deadlines, no policy is better.
fn ideal_goodput(trace: &[Arrival], capacity: f64) -> f64 {
    let each = Duration::from_secs_f64(1.0 / capacity);
    let mut free_at = Duration::ZERO;
    let mut answers = Answers::default();
    for arrival in trace {
        let end = free_at.max(arrival.at) + each;
        let is_taken = arrival.deadline.is_none_or(|deadline| end <= deadline);
        answers.times.push(is_taken.then_some(end));
        if is_taken {
            free_at = end;
        }
    }
    Results::new(trace, &answers).goodput
}
