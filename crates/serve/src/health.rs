//! What is told about a server's health, by gRPC and on the metrics listener alike.

use std::sync::Arc;

use tokio::sync::watch;
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, HealthService},
};

use crate::monitor::Vitals;

/// The names under which health is reported: the whole server, and its service.
pub const HEALTH_NAMES: [&str; 2] = ["", "blip.v1.BlipService"];

/// Tells the world. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    vitals: Arc<watch::Sender<Vitals>>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new(watch::Sender::default())
    }
}

impl Health {
    /// Says nothing yet; `vitals` is told along with gRPC's health service.
    #[must_use]
    pub fn new(vitals: watch::Sender<Vitals>) -> Self {
        Self { reporter: HealthReporter::new(), vitals: Arc::new(vitals) }
    }

    /// Reports all names as `SERVING` or `NOT_SERVING`. A server that has once served has started.
    pub async fn report(&self, serving: bool) {
        self.vitals.send_modify(|vitals| *vitals = Vitals { started: vitals.started || serving, serving });
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Ends the health watches, which would keep their connections open for ever.
    pub async fn end_watches(&mut self) {
        for name in HEALTH_NAMES {
            self.reporter.clear_service_status(name).await;
        }
    }

    /// The gRPC service.
    #[must_use]
    pub fn service(&self) -> HealthService {
        HealthService::from_health_reporter(self.reporter.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_drains_has_started_all_the_same() {
        let sender = watch::Sender::default();
        let vitals = sender.subscribe();
        let health = Health::new(sender);
        health.report(false).await;
        assert_eq!(*vitals.borrow(), Vitals { started: false, serving: false });
        health.report(true).await;
        assert_eq!(*vitals.borrow(), Vitals { started: true, serving: true });
        health.report(false).await;
        assert_eq!(*vitals.borrow(), Vitals { started: true, serving: false });
    }
}
