//! Gauges of the loaded models.
//!
//! Each scrape uses a new recorder, so that no gauge of a replaced or unloaded model remains.

use std::sync::Arc;

use metrics::{Gauge, Label, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use scheduler::{MetricKind, MetricSpec, Snapshot};

use crate::{
    models::info::ModelInfo,
    telemetry::metrics::{
        recorder::all,
        table::{MODEL, QUEUE_LIMIT, RUNNING, WAITING},
    },
};

/// Renders the gauges of `models` in Prometheus's text format.
///
/// `commit` is the commit of the program.
pub(crate) fn render(models: &[(Arc<ModelInfo>, Snapshot)], commit: &str) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        all().filter(|metric| metric.kind == MetricKind::Gauge).for_each(MetricSpec::describe);
        for (info, snapshot) in models {
            info_gauge(info, commit).set(1.0);
            let label = Label::new("model", Arc::clone(&info.name));
            snapshot.record_gauges(&[label]);
            record_queue(&info.name, snapshot);
        }
    });
    recorder.handle().render()
}

fn info_gauge(model: &ModelInfo, commit: &str) -> Gauge {
    let labels = [
        ("model", model.name.to_string()),
        ("source", model.source.clone()),
        ("revision", model.revision.clone().unwrap_or_default()),
        ("device", model.device.clone()),
        ("dtype", model.dtype.clone()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", commit.to_owned()),
    ];
    gauge!(MODEL, &labels)
}

/// Records the waiting and running jobs of a model, and their limit.
fn record_queue(model: &Arc<str>, snapshot: &Snapshot) {
    let [high, normal, low] = snapshot.queued;
    let (late, retried) = (snapshot.infeasible, snapshot.to_retry);
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

    fn model(name: &str, source: &str, jobs: usize) -> (Arc<ModelInfo>, Snapshot) {
        let info = ModelInfo::for_test(name, source);
        (info.into(), Snapshot { jobs, queued: [0, jobs, 0], ..Snapshot::default() })
    }

    #[test]
    fn render_includes_only_the_current_models() {
        let (old, new, other) = (model("vqa", "old", 7), model("vqa", "new", 2), model("caption", "c", 3));
        let before = render(&[old, other.clone()], "c0ffee");
        assert!(before.contains("source=\"old\"") && before.contains("blip_queue_jobs{model=\"vqa\"} 7\n"));
        assert!(before.contains("commit=\"c0ffee\""));
        let replaced = render(&[new, other.clone()], "c0ffee");
        assert!(!replaced.contains("source=\"old\"") && replaced.contains("source=\"new\""), "{replaced}");
        assert!(replaced.contains("blip_queue_jobs{model=\"vqa\"} 2\n"), "{replaced}");
        let unloaded = render(&[other], "c0ffee");
        assert!(!unloaded.contains("vqa") && unloaded.contains("caption"), "{unloaded}");
        assert!(!render(&[], "c0ffee").contains("blip_"));
    }

    #[test]
    fn every_gauge_of_a_model_is_rendered_with_its_help() {
        let text = render(&[model("vqa", "demo", 1)], "c0ffee");
        let help: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
        let rendered: BTreeSet<_> = help.iter().filter_map(|line| line.split(' ').next()).collect();
        let of_schedulers = scheduler::METRICS.iter().filter(|metric| metric.kind == MetricKind::Gauge);
        let of_server = [MODEL, WAITING, RUNNING, QUEUE_LIMIT];
        assert_eq!(rendered, of_schedulers.map(|metric| metric.name).chain(of_server).collect());
    }
}
