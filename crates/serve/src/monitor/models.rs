//! What is told of each model at this moment, in a recorder that lives as long as the scrape: of a model that was replaced or
//! taken away nothing stays behind.

use std::sync::Arc;

use metrics::{Gauge, Label, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use scheduler::{Metric, MetricKind, Snapshot};

use super::{
    recorder::all,
    table::{MODEL, QUEUE_LIMIT, RUNNING, WAITING},
};
use crate::description::Description;

/// The gauges of `models`, in Prometheus's text format.
pub(super) fn render(models: &[(Arc<Description>, Snapshot)]) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        all().filter(|metric| metric.kind == MetricKind::Gauge).for_each(Metric::describe);
        for (description, snapshot) in models {
            info(description).set(1.0);
            let label = Label::new("model", Arc::clone(&description.name));
            snapshot.record_gauges(&[label]);
            record_queue(&description.name, snapshot);
        }
    });
    recorder.handle().render()
}

fn info(model: &Description) -> Gauge {
    let labels = [
        ("model", model.name.to_string()),
        ("source", model.source.clone()),
        ("revision", model.revision.clone().unwrap_or_default()),
        ("device", model.device.clone()),
        ("dtype", model.dtype.clone()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", env!("BLIP_SERVE_COMMIT").to_owned()),
    ];
    gauge!(MODEL, &labels)
}

/// What waits and what runs for a model, and how much of it there may be.
fn record_queue(model: &Arc<str>, snapshot: &Snapshot) {
    let [high, normal, low] = snapshot.queued;
    let (late, retried) = (snapshot.hopeless, snapshot.to_retry);
    for (priority, waiting) in
        [("high", high), ("normal", normal), ("low", low), ("late", late), ("retried", retried)]
    {
        gauge!(WAITING, "model" => Arc::clone(model), "priority" => priority).set(waiting as f64);
    }
    let running = snapshot.engines.iter().map(|engine| engine.rows_left).sum::<usize>();
    gauge!(RUNNING, "model" => Arc::clone(model)).set(running as f64);
    gauge!(QUEUE_LIMIT, "model" => Arc::clone(model)).set(snapshot.job_limit as f64);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn model(name: &str, source: &str, jobs: usize) -> (Arc<Description>, Snapshot) {
        let description = Description::of_test(name, source);
        (description.into(), Snapshot { jobs, queued: [0, jobs, 0], ..Snapshot::default() })
    }

    #[test]
    fn only_the_models_that_are_there_are_told_of() {
        let (old, new, other) = (model("vqa", "old", 7), model("vqa", "new", 2), model("caption", "c", 3));
        let before = render(&[old, other.clone()]);
        assert!(before.contains("source=\"old\"") && before.contains("blip_queue_jobs{model=\"vqa\"} 7\n"));
        let replaced = render(&[new, other.clone()]);
        assert!(!replaced.contains("source=\"old\"") && replaced.contains("source=\"new\""), "{replaced}");
        assert!(replaced.contains("blip_queue_jobs{model=\"vqa\"} 2\n"), "{replaced}");
        let taken_away = render(&[other]);
        assert!(!taken_away.contains("vqa") && taken_away.contains("caption"), "{taken_away}");
        assert!(!render(&[]).contains("blip_"));
    }

    #[test]
    fn every_gauge_that_has_a_models_name_is_there_with_its_help() {
        let text = render(&[model("vqa", "demo", 1)]);
        let told: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
        let told: BTreeSet<_> = told.iter().filter_map(|line| line.split(' ').next()).collect();
        let of_schedulers = scheduler::METRICS.iter().filter(|metric| metric.kind == MetricKind::Gauge);
        let own = [MODEL, WAITING, RUNNING, QUEUE_LIMIT];
        assert_eq!(told, of_schedulers.map(|metric| metric.name).chain(own).collect());
    }
}
