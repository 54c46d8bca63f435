//! Metrics and snapshots.

use std::collections::{BTreeMap, BTreeSet};

use metrics::Label;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use scheduler::{ClientId, METRICS, MetricKind, Priority, SchedulerConfig};

use crate::fake_engine::{Harness, job};

#[test]
fn decisions_are_counted_by_metrics_of_the_table() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut harness = Harness::new(SchedulerConfig::default()).await;
            let first = harness.ask(1, "first");
            let running = harness.batch().await;
            let (a, b) = (harness.ask(2, "same"), harness.ask(2, "same"));
            drop(harness.ask(3, "cancelled"));
            let mut past = job(4, "past");
            past.deadline = Some(tokio::time::Instant::now());
            assert!(harness.submit(past).is_err());
            running.complete();
            harness.batch().await.complete();
            for ticket in [first, a, b] {
                ticket.await.unwrap();
            }
            harness.scheduler.shutdown().await;
        });
    });
    let mut counters = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (name, labels) = (key.key().name(), key.key().labels());
        assert!(METRICS.iter().any(|metric| metric.name == name), "{name} is missing in the table");
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

#[test]
fn schedulers_of_one_process_are_distinguished_by_labels() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            for (name, jobs) in [("a", 1), ("b", 2)] {
                let labels = vec![Label::new("model", name)];
                let mut harness =
                    Harness::new(SchedulerConfig { labels, ..SchedulerConfig::default() }).await;
                for _ in 0..jobs {
                    let job = harness.ask(1, "what?");
                    harness.batch().await.complete();
                    job.await.unwrap();
                }
                harness.scheduler.shutdown().await;
            }
        });
    });
    let mut answered = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let model = key.key().labels().find(|label| label.key() == "model");
        let model = model.unwrap_or_else(|| panic!("{key:?}")).value().to_owned();
        if let ("blip_jobs_answered_total" | "blip_batches_total", DebugValue::Counter(count)) =
            (key.key().name(), value)
        {
            *answered.entry((key.key().name().to_owned(), model)).or_default() += count;
        }
    }
    let expected = [("blip_batches_total", "a", 1), ("blip_batches_total", "b", 2)].into_iter();
    let expected =
        expected.chain([("blip_jobs_answered_total", "a", 1), ("blip_jobs_answered_total", "b", 2)]);
    let expected = expected.map(|(name, model, count)| ((name.to_owned(), model.to_owned()), count));
    assert_eq!(answered, expected.collect::<BTreeMap<_, u64>>());
}

#[tokio::test(start_paused = true)]
async fn gauges_are_written_only_on_request() {
    let (recorder, other) = (DebuggingRecorder::new(), DebuggingRecorder::new());
    let (written, unrequested) = (recorder.snapshotter(), other.snapshotter());
    let guard = metrics::set_default_local_recorder(&other);
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _running = harness.ask(1, "running");
    let batch = harness.batch().await;
    let _waiting = [harness.ask(1, "a"), harness.ask(2, "b")];
    drop(guard);
    let is_gauge = |value: &DebugValue| matches!(value, DebugValue::Gauge(_));
    assert!(!unrequested.snapshot().into_vec().iter().any(|(.., value)| is_gauge(value)));
    let labels = [Label::new("model", "a")];
    metrics::with_local_recorder(&recorder, || harness.scheduler.snapshot().record_gauges(&labels));
    let mut gauges = BTreeMap::new();
    for (key, _, _, value) in written.snapshot().into_vec() {
        assert!(key.key().labels().any(|label| *label == labels[0]), "{key:?}");
        let DebugValue::Gauge(value) = value else { panic!("{key:?}") };
        gauges.insert(key.key().name().to_owned(), value.0);
    }
    let declared = METRICS.iter().filter(|metric| metric.kind == MetricKind::Gauge);
    let declared: BTreeSet<_> = declared.map(|metric| metric.name.to_owned()).collect();
    assert_eq!(gauges.keys().cloned().collect::<BTreeSet<_>>(), declared);
    assert_eq!((gauges["blip_queue_jobs"], gauges["blip_engines_alive"]), (3.0, 1.0));
    batch.complete();
}

#[tokio::test(start_paused = true)]
async fn snapshot_reports_waiting_and_running_jobs() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _running = harness.ask(1, "running");
    let batch = harness.batch().await;
    let _waiting = [harness.ask(1, "a"), harness.ask(2, "b"), harness.ask(2, "b")];
    let mut urgent = job(3, "urgent");
    (urgent.client, urgent.priority) = (ClientId(2), Priority::High);
    let _urgent = harness.submit(urgent).unwrap();
    tokio::time::advance(std::time::Duration::from_millis(30)).await;
    let snapshot = harness.scheduler.snapshot();
    // Two of the jobs are identical: they share one pending job.
    assert_eq!((snapshot.jobs, snapshot.queued, snapshot.clients), (5, [1, 2, 0], 2));
    assert_eq!((snapshot.images, snapshot.image_bytes, snapshot.is_closing), (3, 3000, false));
    let engine = &snapshot.engines[0];
    assert_eq!((engine.is_alive, engine.rows, engine.rows_left), (true, 1, 1));
    assert_eq!(engine.running_for, std::time::Duration::from_millis(30));
    batch.complete();
}

#[test]
fn rebuilt_engine_is_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut harness = Harness::new(SchedulerConfig::default()).await;
            let lost = harness.ask(1, "lost");
            harness.batch().await.end(|_| panic!("made to panic"));
            assert!(lost.await.is_err());
            let next = harness.ask(1, "next");
            harness.batch().await.complete();
            next.await.unwrap();
            harness.scheduler.shutdown().await;
        });
    });
    let restarts = snapshotter.snapshot().into_vec().into_iter().find_map(|(key, _, _, value)| match value {
        DebugValue::Counter(count) if key.key().name() == "blip_engine_restarts_total" => Some(count),
        _ => None,
    });
    assert_eq!(restarts, Some(1));
}
