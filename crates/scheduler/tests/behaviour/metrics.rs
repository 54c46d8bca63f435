//! What can be watched.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use scheduler::{METRICS, SchedulerConfig};

use crate::puppet::{Stage, job};

fn counters(snapshotter: &Snapshotter) -> BTreeMap<String, u64> {
    snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) => {
                let labels: String =
                    key.key().labels().map(|label| format!(" {}={}", label.key(), label.value())).collect();
                Some((format!("{}{labels}", key.key().name()), count))
            }
            DebugValue::Gauge(_) | DebugValue::Histogram(_) => None,
        })
        .collect()
}

#[test]
fn decisions_are_counted_and_every_metric_is_in_the_table() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let seen = metrics::with_local_recorder(&recorder, || {
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
        });
        for (key, ..) in snapshotter.snapshot().into_vec() {
            assert!(
                METRICS.iter().any(|metric| metric.name == key.key().name()),
                "{key:?} is not in the table"
            );
        }
        counters(&snapshotter)
    });
    // Taking a snapshot resets counters: the last one read nothing new.
    drop(seen);
}
