//! Health of the server and its models, for `grpc.health.v1` and the operations endpoint.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Mutex, watch};
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, HealthService},
};

/// The service names of the server's health: the server as a whole, and its inference service.
pub const HEALTH_NAMES: [&str; 2] = ["", "blip.v1.BlipService"];

/// Returns the service name of a model's health.
fn service_name(model: &str) -> String {
    format!("blip.v1.BlipService/{model}")
}

/// The readiness of a server, for its operations endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The models have been loaded. Remains set.
    pub is_started: bool,
    /// The server accepts requests, and all models are healthy.
    pub is_serving: bool,
}

/// Publishes health over gRPC and HTTP. Clones share state.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    readiness: Arc<watch::Sender<Readiness>>,
    state: Arc<Mutex<HealthState>>,
}

#[derive(Debug, Default)]
struct HealthState {
    /// Whether the server accepts calls.
    is_accepting: bool,
    /// Whether each model is healthy.
    models: BTreeMap<Arc<str>, bool>,
    /// Whether each service name was last published as `SERVING`.
    published: BTreeMap<String, bool>,
}

impl HealthState {
    /// Returns whether the server accepts calls and all models are healthy.
    fn is_serving(&self) -> bool {
        self.is_accepting && self.models.values().all(|is_healthy| *is_healthy)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(watch::Sender::default())
    }
}

impl Health {
    /// Creates the health of a server that has published nothing.
    ///
    /// Changes are also sent to `readiness`.
    #[must_use]
    pub fn new(readiness: watch::Sender<Readiness>) -> Self {
        let (readiness, state) = (Arc::new(readiness), Arc::default());
        Self { reporter: HealthReporter::new(), readiness, state }
    }

    /// Sets whether the server accepts calls.
    pub async fn set_accepting(&self, is_accepting: bool) {
        let mut state = self.state.lock().await;
        state.is_accepting = is_accepting;
        self.publish(&mut state).await;
    }

    /// Returns the health of the model of this name.
    #[must_use]
    pub fn of(&self, model: Arc<str>) -> ModelHealth {
        ModelHealth { health: self.clone(), model }
    }

    /// Stops reporting the health of the model of this name.
    pub async fn remove(&self, model: &str) {
        let mut state = self.state.lock().await;
        state.models.remove(model);
        let name = service_name(model);
        state.published.remove(&name);
        self.reporter.clone().clear_service_status(&name).await;
        self.publish(&mut state).await;
    }

    /// Publishes `SERVING` or `NOT_SERVING` for each name whose status has changed.
    ///
    /// Watching clients receive nothing else. The server counts as started after it was first
    /// serving.
    async fn publish(&self, state: &mut HealthState) {
        let is_serving = state.is_serving();
        let models = state
            .models
            .iter()
            .map(|(model, is_healthy)| (service_name(model), state.is_accepting && *is_healthy));
        let all = HEALTH_NAMES.map(|name| (name.to_owned(), is_serving)).into_iter().chain(models);
        for (name, is_serving) in all.collect::<Vec<_>>() {
            if state.published.get(&name) == Some(&is_serving) {
                continue;
            }
            if name.is_empty() {
                self.readiness.send_modify(|readiness| {
                    *readiness = Readiness { is_started: readiness.is_started || is_serving, is_serving };
                });
            }
            let status = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(&name, status).await;
            state.published.insert(name, is_serving);
        }
    }

    /// Ends the health watches of clients, which would otherwise never close their connections.
    pub async fn end_watches(&mut self) {
        let published = std::mem::take(&mut self.state.lock().await.published);
        for name in published.keys() {
            self.reporter.clear_service_status(name).await;
        }
    }

    /// Returns the gRPC service.
    #[must_use]
    pub fn service(&self) -> HealthService {
        HealthService::from_health_reporter(self.reporter.clone())
    }
}

/// The health of one model.
#[derive(Clone, Debug)]
pub struct ModelHealth {
    health: Health,
    model: Arc<str>,
}

impl ModelHealth {
    /// Reports whether the model is healthy.
    pub async fn report(&self, is_healthy: bool) {
        let mut state = self.health.state.lock().await;
        state.models.insert(Arc::clone(&self.model), is_healthy);
        self.health.publish(&mut state).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus as Status, health_server::Health as _,
    };

    use super::*;

    #[tokio::test]
    async fn watch_receives_only_changes() {
        let mut health = Health::default();
        health.set_accepting(true).await;
        let request = tonic::Request::new(HealthCheckRequest::default());
        let watch = health.service().watch(request).await.unwrap().into_inner();
        let received = watch.map(|response| response.unwrap().status());
        let mut received = std::pin::pin!(received);
        assert_eq!(received.next().await, Some(Status::Serving));
        health.set_accepting(true).await;
        health.set_accepting(false).await;
        assert_eq!(received.next().await, Some(Status::NotServing));
        health.end_watches().await;
        assert_eq!(received.next().await, None);
    }

    #[tokio::test]
    async fn draining_server_remains_started() {
        let sender = watch::Sender::default();
        let readiness = sender.subscribe();
        let health = Health::new(sender);
        health.set_accepting(false).await;
        assert_eq!(*readiness.borrow(), Readiness { is_started: false, is_serving: false });
        health.set_accepting(true).await;
        assert_eq!(*readiness.borrow(), Readiness { is_started: true, is_serving: true });
        health.set_accepting(false).await;
        assert_eq!(*readiness.borrow(), Readiness { is_started: true, is_serving: false });
    }

    #[tokio::test]
    async fn server_serves_only_while_all_models_are_healthy() {
        let health = Health::default();
        let status = async |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            let response = health.service().check(tonic::Request::new(request)).await;
            response.ok().map(|response| response.into_inner().status())
        };
        let (a, b) = (health.of("a".into()), health.of("b".into()));
        a.report(true).await;
        b.report(true).await;
        assert_eq!(status("").await, Some(Status::NotServing));
        health.set_accepting(true).await;
        b.report(false).await;
        assert_eq!(status("blip.v1.BlipService/a").await, Some(Status::Serving));
        assert_eq!(status("blip.v1.BlipService/b").await, Some(Status::NotServing));
        assert_eq!(status("blip.v1.BlipService").await, Some(Status::NotServing));
        health.remove("b").await;
        assert_eq!(status("").await, Some(Status::Serving));
        assert_eq!(status("blip.v1.BlipService/b").await, None);
        health.set_accepting(false).await;
        assert_eq!(status("blip.v1.BlipService/a").await, Some(Status::NotServing));
    }
}
