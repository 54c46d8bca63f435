//! Installs the Prometheus recorder, with buckets for each histogram.

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use scheduler::{MetricKind, MetricSpec};

use crate::telemetry::metrics::METRICS;

/// Upper bounds of histogram buckets, by the suffix of the metric's name.
///
/// The first matching suffix applies.
///
/// Times have bounds from 1 ms to 60 s, and batch sizes have powers of two.
pub const BUCKETS: [(&str, &[f64]); 4] = [
    (
        "_seconds",
        &[
            0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            30.0, 60.0,
        ],
    ),
    ("_prediction_ratio", &[0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 5.0]),
    ("_ratio", &[0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0]),
    ("", &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
];

/// Returns the upper bounds of a histogram's buckets.
pub(crate) fn buckets(name: &str) -> &'static [f64] {
    let fits = |(end, _): &&(&str, &'static [f64])| name.ends_with(*end);
    BUCKETS.iter().find(fits).map_or(&[], |(_, buckets)| buckets)
}

/// Returns all metrics of the server and the scheduler.
pub(crate) fn all() -> impl Iterator<Item = &'static MetricSpec> {
    METRICS.iter().chain(scheduler::METRICS)
}

/// Installs the global recorder and describes all metrics.
///
/// # Errors
/// A recorder that is already installed.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    for metric in all().filter(|metric| metric.kind == MetricKind::Histogram) {
        let matcher = Matcher::Full(metric.name.to_owned());
        builder = builder
            .set_buckets_for_metric(matcher, buckets(metric.name))
            .context("cannot set histogram buckets")?;
    }
    let handle = builder.install_recorder().context("cannot install the metrics recorder")?;
    all().for_each(MetricSpec::describe);
    metrics_process::Collector::default().describe();
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn metric_names_are_unique_and_buckets_ascend() {
        let mut names = BTreeSet::new();
        for metric in all() {
            assert!(names.insert(metric.name), "{}", metric.name);
            assert!(metric.name.starts_with("blip_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == MetricKind::Counter,
                "{}",
                metric.name
            );
            let buckets = buckets(metric.name);
            assert!(!buckets.is_empty() && buckets.is_sorted(), "{}", metric.name);
        }
        assert_eq!(buckets("blip_queue_wait_seconds").first(), Some(&0.001));
        assert_eq!(buckets("blip_batch_padding_ratio").last(), Some(&1.0));
    }
}
