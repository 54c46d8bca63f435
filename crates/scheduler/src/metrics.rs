//! What can be watched from outside: every metric of this crate, declared once.

use metrics::{Counter, Histogram, Label, Unit, counter, gauge, histogram};

use crate::{
    cost::CostCoefficients,
    engine::EngineErrorKind,
    error::SubmitError,
    job::{JobStage, Priority},
    snapshot::Snapshot,
};

/// The three kinds of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only ever grows.
    Counter,
    /// A value at this moment.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A metric as documentation and dashboards need to know it.
#[derive(Clone, Copy, Debug)]
pub struct MetricSpec {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels and their values, `label=value|value`; empty without. Those of a whole scheduler come on top
    /// ([`SchedulerConfig::labels`](crate::SchedulerConfig::labels)).
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

impl MetricSpec {
    /// Gives its unit and help to the recorder that is installed.
    pub fn describe(&self) {
        match self.kind {
            MetricKind::Counter => metrics::describe_counter!(self.name, self.unit, self.help),
            MetricKind::Gauge => metrics::describe_gauge!(self.name, self.unit, self.help),
            MetricKind::Histogram => metrics::describe_histogram!(self.name, self.unit, self.help),
        }
    }
}

/// Declares metrics: a constant with the name of each, and `METRICS`, the table of them all.
#[macro_export]
macro_rules! metrics_table {
    ($($id:ident = $name:literal, $kind:ident, $unit:ident, $labels:literal, $help:literal;)*) => {
        $(pub(crate) const $id: &str = $name;)*

        /// Every metric of this crate.
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
    ADMITTED = "blip_jobs_admitted_total", Counter, Count, "priority=high|normal|low", "jobs taken into the queue";
    REFUSED = "blip_jobs_refused_total", Counter, Count,
        "reason=queue_full|bytes_full|client_share|too_late|shutting_down|engine_dead", "jobs refused at the door";
    ANSWERED = "blip_jobs_answered_total", Counter, Count, "", "jobs that ended with an answer";
    FAILED = "blip_jobs_failed_total", Counter, Count,
        "kind=row|batch|out_of_memory|fatal", "jobs that ended with an engine's error";
    EXPIRED = "blip_jobs_expired_total", Counter, Count, "stage=queued|running", "jobs whose deadline passed";
    CANCELLED = "blip_jobs_cancelled_total", Counter, Count, "stage=queued|running", "jobs whose asker left";
    INFEASIBLE = "blip_jobs_hopeless_total", Counter, Count, "",
        "jobs set aside because their deadline could no longer be met";
    SHARED = "blip_single_flight_hits_total", Counter, Count, "", "jobs that joined another one for the same";
    QUEUE_WAIT = "blip_queue_wait_seconds", Histogram, Seconds, "", "from submission of a job to the start of its batch";
    QUEUE_JOBS = "blip_queue_jobs", Gauge, Count, "", "jobs that wait or run";
    QUEUE_BYTES = "blip_queue_bytes", Gauge, Bytes, "", "images of jobs that wait or run, each image once";
    BATCHES = "blip_batches_total", Counter, Count,
        "result=ok|row|batch|out_of_memory|fatal|panic", "batches that ended";
    BATCH_IMAGES = "blip_batch_images", Histogram, Count, "", "distinct images of a batch";
    BATCH_ENCODED = "blip_batch_encoded_images", Histogram, Count, "", "images of a batch whose features had to be computed";
    BATCH_QUESTIONS = "blip_batch_questions", Histogram, Count, "", "questions of a batch";
    BATCH_FILL = "blip_batch_fill_ratio", Histogram, Count, "",
        "questions of a batch over the most that one may have, 0 to 1";
    BATCH_PADDING = "blip_batch_padding_ratio", Histogram, Count, "",
        "part of a batch's padded tokens that is padding, 0 to 1";
    BATCH_TIME = "blip_batch_seconds", Histogram, Seconds, "", "from the start of a batch to its end";
    PREDICTION = "blip_batch_prediction_ratio", Histogram, Count, "", "time a batch took over the time predicted";
    BISECTED = "blip_batches_bisected_total", Counter, Count, "", "failed batches split to find the failing row";
    STOLEN = "blip_images_stolen_total", Counter, Count, "",
        "images encoded although another engine holds their features";
    COEFFICIENT = "blip_service_coefficient_seconds", Gauge, Seconds, "term=batch|image|question|step",
        "the fitted service model";
    RESTARTS = "blip_engine_restarts_total", Counter, Count, "", "engines built anew after a panic";
    ENGINES_ALIVE = "blip_engines_alive", Gauge, Count, "", "engines that can work";
}

/// Gives every metric's unit and help to the recorder that is installed.
pub fn describe_metrics() {
    METRICS.iter().for_each(MetricSpec::describe);
}

/// How a batch ended, as a label.
pub(crate) const fn result_label(kind: Option<EngineErrorKind>) -> &'static str {
    match kind {
        None => "ok",
        Some(EngineErrorKind::Row) => "row",
        Some(EngineErrorKind::Batch) => "batch",
        Some(EngineErrorKind::OutOfMemory) => "out_of_memory",
        Some(EngineErrorKind::Fatal) => "fatal",
    }
}

/// A counter for each value that the table gives to a metric's label.
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
        debug_assert!(counter.is_some(), "label {value} is not in the table");
        if let Some((_, counter)) = counter {
            counter.increment(1);
        }
    }
}

/// The labels in `common` and one more.
fn with(common: &[Label], label: &'static str, value: &'static str) -> Vec<Label> {
    common.iter().cloned().chain([Label::from_static_parts(label, value)]).collect()
}

impl Snapshot {
    /// Gives every gauge of a scheduler to the recorder in force, with `labels` on each. They are written when somebody looks,
    /// not as things change: of a scheduler that is gone no value can stay behind, nor one of its last moments overwrite
    /// those of another of the same labels that has taken its position.
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

/// Handles of the counters and histograms that are touched for every job or batch, looked up once.
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
    /// Handles of the recorder that is installed now, with `labels` on each metric.
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
    fn every_metric_is_named_once_with_prefix_and_help_and_counters_end_in_total() {
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
