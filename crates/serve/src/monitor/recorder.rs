//! The recorder: Prometheus's text format, with buckets that fit what is measured.

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use scheduler::{Metric, MetricKind};

use super::METRICS;

/// Upper bounds of buckets by the end of a metric's name: 1 ms to a minute for times, powers of two for sizes of
/// batches, parts of one for ratios. The first end that fits counts.
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

/// The upper bounds of a histogram's buckets.
pub(super) fn buckets(name: &str) -> &'static [f64] {
    let fits = |(end, _): &&(&str, &'static [f64])| name.ends_with(*end);
    BUCKETS.iter().find(fits).map_or(&[], |(_, buckets)| buckets)
}

/// Every metric of the program.
pub(super) fn all() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().chain(scheduler::METRICS)
}

/// Records metrics from now on, for as long as the program runs.
///
/// # Errors
/// If something records them already.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    for metric in all().filter(|metric| metric.kind == MetricKind::Histogram) {
        let matcher = Matcher::Full(metric.name.to_owned());
        builder =
            builder.set_buckets_for_metric(matcher, buckets(metric.name)).context("cannot set buckets")?;
    }
    let handle = builder.install_recorder().context("cannot record metrics")?;
    all().for_each(Metric::describe);
    metrics_process::Collector::default().describe();
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_histogram_has_buckets_that_rise_and_every_metric_a_name_of_its_own() {
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
