//! What is told about a server's health, by gRPC and on the metrics listener alike.

use std::sync::Arc;

use tokio::sync::{Mutex, watch};
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
    /// What was told last.
    told: Arc<Mutex<Option<bool>>>,
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
        Self { reporter: HealthReporter::new(), vitals: Arc::new(vitals), told: Arc::default() }
    }

    /// Reports all names as `SERVING` or `NOT_SERVING`, once for each change: who watches is told of nothing else. A server
    /// that has once served has started.
    pub async fn report(&self, serving: bool) {
        let mut told = self.told.lock().await;
        if *told == Some(serving) {
            return;
        }
        *told = Some(serving);
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
    use futures::StreamExt as _;
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus as Told, health_server::Health as _,
    };

    use super::*;

    #[tokio::test]
    async fn who_watches_is_told_of_changes_only() {
        let mut health = Health::default();
        health.report(true).await;
        let request = tonic::Request::new(HealthCheckRequest::default());
        let watch = health.service().watch(request).await.unwrap().into_inner();
        let seen = watch.map(|response| response.unwrap().status());
        let mut seen = std::pin::pin!(seen);
        assert_eq!(seen.next().await, Some(Told::Serving));
        health.report(true).await;
        health.report(false).await;
        assert_eq!(seen.next().await, Some(Told::NotServing));
        health.end_watches().await;
        assert_eq!(seen.next().await, None);
    }

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
