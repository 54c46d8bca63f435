//! The metrics of this crate: one table, and the handles that record them.

use metrics::{Counter, Histogram, Label, Unit, counter, gauge, histogram};

use crate::{
    cost::CostCoefficients,
    engine::EngineErrorKind,
    error::SubmitError,
    job::{JobStage, Priority},
    snapshot::Snapshot,
};

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A count that never decreases.
    Counter,
    /// A current value.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// A metric, as documentation and dashboards need it.
#[derive(Clone, Copy, Debug)]
pub struct MetricSpec {
    /// The name.
    pub name: &'static str,
    /// The kind.
    pub kind: MetricKind,
    /// The unit.
    pub unit: Unit,
    /// Labels with their values, as `label=value|value`. Empty if the metric has none. The
    /// [labels of a scheduler](crate::SchedulerConfig::labels) are added to these.
    pub labels: &'static str,
    /// The help text.
    pub help: &'static str,
}

impl MetricSpec {
    /// Describes the metric to the installed recorder.
    pub fn describe(&self) {
        match self.kind {
            MetricKind::Counter => metrics::describe_counter!(self.name, self.unit, self.help),
            MetricKind::Gauge => metrics::describe_gauge!(self.name, self.unit, self.help),
            MetricKind::Histogram => metrics::describe_histogram!(self.name, self.unit, self.help),
        }
    }
}

/// Declares metrics: a constant for each name, and the table `METRICS`.
#[macro_export]
macro_rules! metrics_table {
    ($($id:ident = $name:literal, $kind:ident, $unit:ident, $labels:literal, $help:literal;)*) => {
        $(pub(crate) const $id: &str = $name;)*

        /// All metrics of this crate.
        pub const METRICS: &[$crate::MetricSpec] = &[$($crate::MetricSpec {
            name: $name,
            kind: $crate::MetricKind::$kind,
            unit: ::metrics::Unit::$unit,
            labels: $labels,
            help: $help,
        }),*];
    };
}

metrics_table! {
    ADMITTED = "blip_jobs_admitted_total", Counter, Count, "priority=high|normal|low", "accepted jobs";
    REFUSED = "blip_jobs_refused_total", Counter, Count,
        "reason=queue_full|bytes_full|client_share|too_late|shutting_down|engine_dead", "rejected jobs, by reason";
    ANSWERED = "blip_jobs_answered_total", Counter, Count, "", "jobs that ended with an answer";
    FAILED = "blip_jobs_failed_total", Counter, Count,
        "kind=row|batch|out_of_memory|fatal", "jobs that ended with an engine error";
    EXPIRED = "blip_jobs_expired_total", Counter, Count, "stage=queued|running", "jobs that passed their deadline";
    CANCELLED = "blip_jobs_cancelled_total", Counter, Count, "stage=queued|running", "jobs that clients cancelled";
    INFEASIBLE = "blip_jobs_hopeless_total", Counter, Count, "",
        "jobs that could no longer meet their deadline";
    SHARED = "blip_single_flight_hits_total", Counter, Count, "", "jobs that joined an identical pending job";
    QUEUE_WAIT = "blip_queue_wait_seconds", Histogram, Seconds, "", "time from the submission of a job to the start of its batch";
    QUEUE_JOBS = "blip_queue_jobs", Gauge, Count, "", "waiting and running jobs";
    QUEUE_BYTES = "blip_queue_bytes", Gauge, Bytes, "", "image bytes of waiting and running jobs, each image once";
    BATCHES = "blip_batches_total", Counter, Count,
        "result=ok|row|batch|out_of_memory|fatal|panic", "ended batches";
    BATCH_IMAGES = "blip_batch_images", Histogram, Count, "", "distinct images of a batch";
    BATCH_ENCODED = "blip_batch_encoded_images", Histogram, Count, "", "images of a batch that the engine encoded";
    BATCH_QUESTIONS = "blip_batch_questions", Histogram, Count, "", "questions of a batch";
    BATCH_FILL = "blip_batch_fill_ratio", Histogram, Count, "",
        "questions of a batch divided by the limit, 0 to 1";
    BATCH_PADDING = "blip_batch_padding_ratio", Histogram, Count, "",
        "fraction of a batch's padded tokens that is padding, 0 to 1";
    BATCH_TIME = "blip_batch_seconds", Histogram, Seconds, "", "time from the start of a batch to its end";
    PREDICTION = "blip_batch_prediction_ratio", Histogram, Count, "", "measured time of a batch divided by its predicted time";
    BISECTED = "blip_batches_bisected_total", Counter, Count, "", "failed batches that were split to find the failing row";
    STOLEN = "blip_images_stolen_total", Counter, Count, "",
        "images that an engine encoded although another engine had their features";
    COEFFICIENT = "blip_service_coefficient_seconds", Gauge, Seconds, "term=batch|image|question|step",
        "coefficients of the fitted cost model";
    RESTARTS = "blip_engine_restarts_total", Counter, Count, "", "engines rebuilt after a panic";
    ENGINES_ALIVE = "blip_engines_alive", Gauge, Count, "", "engines that can work";
}

/// Describes all metrics to the installed recorder.
pub fn describe_metrics() {
    METRICS.iter().for_each(MetricSpec::describe);
}

/// Returns the result of a batch as a metric label.
pub(crate) const fn result_label(kind: Option<EngineErrorKind>) -> &'static str {
    match kind {
        None => "ok",
        Some(EngineErrorKind::Row) => "row",
        Some(EngineErrorKind::Batch) => "batch",
        Some(EngineErrorKind::OutOfMemory) => "out_of_memory",
        Some(EngineErrorKind::Fatal) => "fatal",
    }
}

/// The counters of a metric with one label, one for each value in the table.
struct CounterFamily(Vec<(&'static str, Counter)>);

impl CounterFamily {
    fn new(name: &'static str, common: &[Label]) -> Self {
        let labels = METRICS.iter().find(|metric| metric.name == name).map_or("", |metric| metric.labels);
        let (label, values) = labels.split_once('=').unwrap_or_default();
        let counter = |value| (value, counter!(name, with(common, label, value)));
        Self(values.split('|').map(counter).collect())
    }

    fn increment(&self, value: &str) {
        let counter = self.0.iter().find(|(known, _)| *known == value);
        debug_assert!(counter.is_some(), "label value {value} is missing in the table");
        if let Some((_, counter)) = counter {
            counter.increment(1);
        }
    }
}

/// Returns the labels in `common` and one more.
fn with(common: &[Label], label: &'static str, value: &'static str) -> Vec<Label> {
    common.iter().cloned().chain([Label::from_static_parts(label, value)]).collect()
}

impl Snapshot {
    /// Writes the gauges to the current recorder, with `labels` on each.
    ///
    /// Gauges are written on request and not on change. So a removed scheduler leaves no value
    /// behind, and cannot overwrite the values of its successor with the same labels.
    pub fn record_gauges(&self, labels: &[Label]) {
        let record = |name, value: f64| gauge!(name, labels.to_vec()).set(value);
        record(QUEUE_JOBS, self.jobs as f64);
        record(QUEUE_BYTES, self.image_bytes as f64);
        record(ENGINES_ALIVE, self.engines.iter().filter(|engine| engine.is_alive).count() as f64);
        let CostCoefficients { batch, image, question, step } = self.coefficients;
        for (term, seconds) in [("batch", batch), ("image", image), ("question", question), ("step", step)] {
            gauge!(COEFFICIENT, with(labels, "term", term)).set(seconds);
        }
    }
}

/// Handles of the counters and histograms that every job or batch updates.
pub(crate) struct SchedulerMetrics {
    admitted: CounterFamily,
    refused: CounterFamily,
    failed: CounterFamily,
    expired: CounterFamily,
    cancelled: CounterFamily,
    batches: CounterFamily,
    pub(crate) answered: Counter,
    pub(crate) infeasible: Counter,
    pub(crate) shared: Counter,
    pub(crate) stolen: Counter,
    pub(crate) bisected: Counter,
    pub(crate) queue_wait: Histogram,
    pub(crate) batch_images: Histogram,
    pub(crate) batch_encoded: Histogram,
    pub(crate) batch_questions: Histogram,
    pub(crate) batch_fill: Histogram,
    pub(crate) batch_padding: Histogram,
    pub(crate) batch_time: Histogram,
    pub(crate) prediction: Histogram,
    pub(crate) restarts: Counter,
}

impl SchedulerMetrics {
    /// Creates handles of the installed recorder, with `labels` on each metric.
    pub(crate) fn new(labels: &[Label]) -> Self {
        let common = || labels.to_vec();
        Self {
            admitted: CounterFamily::new(ADMITTED, labels),
            refused: CounterFamily::new(REFUSED, labels),
            failed: CounterFamily::new(FAILED, labels),
            expired: CounterFamily::new(EXPIRED, labels),
            cancelled: CounterFamily::new(CANCELLED, labels),
            batches: CounterFamily::new(BATCHES, labels),
            answered: counter!(ANSWERED, common()),
            infeasible: counter!(INFEASIBLE, common()),
            shared: counter!(SHARED, common()),
            stolen: counter!(STOLEN, common()),
            bisected: counter!(BISECTED, common()),
            queue_wait: histogram!(QUEUE_WAIT, common()),
            batch_images: histogram!(BATCH_IMAGES, common()),
            batch_encoded: histogram!(BATCH_ENCODED, common()),
            batch_questions: histogram!(BATCH_QUESTIONS, common()),
            batch_fill: histogram!(BATCH_FILL, common()),
            batch_padding: histogram!(BATCH_PADDING, common()),
            batch_time: histogram!(BATCH_TIME, common()),
            prediction: histogram!(PREDICTION, common()),
            restarts: counter!(RESTARTS, common()),
        }
    }

    pub(crate) fn admitted(&self, class: Priority) {
        self.admitted.increment(class.label());
    }

    pub(crate) fn refused(&self, refused: &SubmitError) {
        self.refused.increment(refused.label());
    }

    pub(crate) fn expired(&self, stage: JobStage) {
        self.expired.increment(stage.label());
    }

    pub(crate) fn cancelled(&self, stage: JobStage) {
        self.cancelled.increment(stage.label());
    }

    pub(crate) fn failed(&self, kind: EngineErrorKind) {
        self.failed.increment(result_label(Some(kind)));
    }

    pub(crate) fn batch_ended(&self, result: &'static str) {
        self.batches.increment(result);
    }
}

impl std::fmt::Debug for SchedulerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchedulerMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn metric_names_are_unique_and_follow_conventions() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert!(metric.name.starts_with("blip_"), "{}", metric.name);
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == MetricKind::Counter,
                "{}",
                metric.name
            );
        }
    }
}
