//! Predicts when an incoming job would be answered, in constant time.
//!
//! Of the work ahead, each competing client is counted with at most as many jobs as the job's own
//! client has waiting, times the weights. Fair queueing lets no more go first.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cost::{CostModel, duration},
    job::Priority,
    limits::BatchLimits,
};

/// The state of the scheduler, as far as the prediction needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// For each class: waiting jobs, and clients that have any.
    pub(crate) classes: [(usize, usize); 3],
    /// Images of waiting jobs that must be encoded.
    pub(crate) cold_images: usize,
    /// Engines that are alive.
    pub(crate) engines: usize,
    /// Time until the first engine is free.
    pub(crate) until_free: Duration,
    /// Limits of a batch.
    pub(crate) limits: BatchLimits,
    /// See [`SchedulerConfig::overhead_fraction`](crate::SchedulerConfig).
    pub(crate) overhead_fraction: f64,
}

/// A job at admission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingJob {
    pub(crate) class: Priority,
    /// Jobs of the same client that wait in the class.
    pub(crate) client_jobs: usize,
    /// Whether the job's image must be encoded for it.
    pub(crate) encodes: bool,
}

impl Load {
    /// Returns the number of jobs that are served before the incoming one.
    fn ahead(&self, incoming: &IncomingJob) -> f64 {
        let client_jobs = (incoming.client_jobs + 1) as f64;
        let (_, competitors) = self.classes.get(incoming.class as usize).copied().unwrap_or_default();
        let competitors = competitors + usize::from(incoming.client_jobs == 0);
        let turns = client_jobs * competitors as f64;
        Priority::ALL
            .into_iter()
            .zip(self.classes)
            .map(|(class, (jobs, _))| {
                let fair = turns * class.share() as f64 / incoming.class.share() as f64;
                let fair = if class == incoming.class { turns - 1.0 } else { fair };
                fair.min(jobs as f64)
            })
            .sum()
    }

    /// Returns the time from now until the incoming job is answered.
    pub(crate) fn time_to_answer(&self, model: &CostModel, incoming: &IncomingJob) -> Duration {
        let waiting: usize = self.classes.iter().map(|(jobs, _)| jobs).sum();
        let ahead = self.ahead(incoming);
        let part = if waiting == 0 { 0.0 } else { ahead / waiting as f64 };
        let images_ahead = self.cold_images as f64 * part;
        let coefficients = model.coefficients();
        let marginal = images_ahead * coefficients.image + ahead * coefficients.question;
        // Full batches before it. A batch is full by its limits, or by the overhead fraction.
        let by_limits = (ahead / self.limits.max_questions.max(1) as f64)
            .max(images_ahead / self.limits.max_images.max(1) as f64);
        let enough = model.fixed_seconds() * (1.0 / self.overhead_fraction.max(1e-3) - 1.0);
        let by_time = if enough > 0.0 { marginal / enough } else { 0.0 };
        let full_batches = by_limits.max(by_time).floor();
        let queue = full_batches * model.fixed_seconds() + marginal;
        let job_time = model.seconds(usize::from(incoming.encodes), 1);
        self.until_free + duration(queue / self.engines.max(1) as f64 + job_time)
    }
}

/// Returns the time after which the same job would meet its deadline.
pub(crate) fn retry_after(answered: Instant, deadline: Instant) -> Duration {
    answered.saturating_duration_since(deadline).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::CostCoefficients;

    fn model() -> CostModel {
        CostModel::new(Some(CostCoefficients { batch: 0.010, image: 0.020, question: 0.001, step: 0.0 }))
    }

    const IDLE: Load = Load {
        classes: [(0, 0); 3],
        cold_images: 0,
        engines: 1,
        until_free: Duration::ZERO,
        limits: BatchLimits { max_images: 10, max_questions: 10, max_padded_tokens: 1000 },
        overhead_fraction: 0.01,
    };
    const NEWCOMER: IncomingJob = IncomingJob { class: Priority::Normal, client_jobs: 0, encodes: true };

    #[test]
    fn job_on_idle_engine_takes_only_its_batch_time() {
        assert_eq!(IDLE.time_to_answer(&model(), &NEWCOMER), Duration::from_millis(31));
    }

    #[test]
    fn job_waits_for_running_batch_and_its_clients_backlog() {
        let load = Load {
            classes: [(0, 0), (100, 1), (0, 0)],
            cold_images: 100,
            until_free: Duration::from_millis(500),
            ..IDLE
        };
        let incoming = IncomingJob { client_jobs: 100, ..NEWCOMER };
        let expected = 500 + 10 * 10 + 100 * 21 + 31;
        assert_eq!(load.time_to_answer(&model(), &incoming), Duration::from_millis(expected));
    }

    #[test]
    fn backlog_of_other_client_delays_job_by_one_turn() {
        let load = Load { classes: [(0, 0), (10_000, 1), (0, 0)], cold_images: 10_000, ..IDLE };
        assert!(load.time_to_answer(&model(), &NEWCOMER) <= Duration::from_millis(31 + 21));
    }

    #[test]
    fn backlog_of_lower_class_hardly_delays_higher_class() {
        let load = Load { classes: [(0, 0), (0, 0), (10_000, 1)], cold_images: 10_000, ..IDLE };
        assert!(load.time_to_answer(&model(), &NEWCOMER) <= Duration::from_millis(31 + 21));
    }

    #[test]
    fn work_ahead_is_shared_among_engines() {
        let one = Load { classes: [(0, 0), (100, 1), (0, 0)], cold_images: 100, ..IDLE };
        let four = Load { engines: 4, ..one };
        let incoming = IncomingJob { client_jobs: 100, ..NEWCOMER };
        assert!(four.time_to_answer(&model(), &incoming) * 3 < one.time_to_answer(&model(), &incoming));
    }
}
