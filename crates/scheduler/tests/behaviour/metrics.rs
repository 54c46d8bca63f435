//! What can be watched.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use scheduler::{METRICS, SchedulerConfig};

use crate::puppet::{Stage, job};

#[test]
fn decisions_are_counted_and_every_metric_is_in_the_table() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::new(SchedulerConfig::default()).await;
            let first = stage.ask(1, "first");
            let running = stage.batch().await;
            let (a, b) = (stage.ask(2, "same"), stage.ask(2, "same"));
            drop(stage.ask(3, "cancelled"));
            let mut past = job(4, "past");
            past.deadline = Some(tokio::time::Instant::now());
            assert!(stage.submit(past).is_err());
            running.complete();
            stage.batch().await.complete();
            for ticket in [first, a, b] {
                ticket.await.unwrap();
            }
            stage.scheduler.shutdown().await;
        });
    });
    let mut counters = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (name, labels) = (key.key().name(), key.key().labels());
        assert!(METRICS.iter().any(|metric| metric.name == name), "{name} is not in the table");
        if let DebugValue::Counter(count) = value {
            let labels: String = labels.map(|label| format!(" {}={}", label.key(), label.value())).collect();
            counters.insert(format!("{name}{labels}"), count);
        }
    }
    counters.retain(|_, count| *count > 0);
    let expected = [
        ("blip_batches_total result=ok", 2),
        ("blip_jobs_admitted_total priority=normal", 4),
        ("blip_jobs_answered_total", 3),
        ("blip_jobs_cancelled_total stage=queued", 1),
        ("blip_jobs_refused_total reason=too_late", 1),
        ("blip_single_flight_hits_total", 1),
    ];
    assert_eq!(counters, expected.map(|(name, count)| (name.to_owned(), count)).into());
}
