//! Health of the server and its models, for `grpc.health.v1` and the operations endpoint.

use std::{collections::BTreeMap, sync::Arc};

use futures::{Stream, stream};
use tokio::sync::watch;

/// The service names of the server's health: the server as a whole, and its inference service.
pub const HEALTH_NAMES: [&str; 2] = ["", "blip.v1.BlipService"];

/// The prefix of the service name of a model's health.
const MODEL_PREFIX: &str = "blip.v1.BlipService/";

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
    state: Arc<watch::Sender<HealthState>>,
    readiness: Arc<watch::Sender<Readiness>>,
}

#[derive(Debug, Default)]
struct HealthState {
    /// Whether the server accepts calls.
    is_accepting: bool,
    /// Whether each model is healthy.
    models: BTreeMap<Arc<str>, bool>,
    /// Whether the watches of clients have ended.
    is_ended: bool,
}

impl HealthState {
    /// Returns whether the server accepts calls and all models are healthy.
    fn is_serving(&self) -> bool {
        self.is_accepting && self.models.values().all(|is_healthy| *is_healthy)
    }

    /// Returns whether the service of this name is serving, or `None` if it is unknown.
    fn status(&self, service: &str) -> Option<bool> {
        if HEALTH_NAMES.contains(&service) {
            return Some(self.is_serving());
        }
        let is_healthy = self.models.get(service.strip_prefix(MODEL_PREFIX)?)?;
        Some(self.is_accepting && *is_healthy)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(watch::Sender::default())
    }
}

impl Health {
    /// Creates the health of a server that does not accept calls.
    ///
    /// Changes are also sent to `readiness`.
    #[must_use]
    pub fn new(readiness: watch::Sender<Readiness>) -> Self {
        Self { state: Arc::default(), readiness: Arc::new(readiness) }
    }

    /// Sets whether the server accepts calls.
    pub fn set_accepting(&self, is_accepting: bool) {
        self.update(|state| state.is_accepting = is_accepting);
    }

    /// Returns the health of the model of this name.
    #[must_use]
    pub fn of(&self, model: Arc<str>) -> ModelHealth {
        ModelHealth { health: self.clone(), model }
    }

    /// Stops reporting the health of the model of this name.
    pub fn remove(&self, model: &str) {
        self.update(|state| {
            state.models.remove(model);
        });
    }

    /// Ends the health watches of clients, which would otherwise never close their connections.
    pub fn end_watches(&self) {
        self.update(|state| state.is_ended = true);
    }

    /// Returns whether the service of this name is serving, or `None` if it is unknown.
    #[must_use]
    pub fn status(&self, service: &str) -> Option<bool> {
        self.state.borrow().status(service)
    }

    /// Returns whether the server accepts calls and all models are healthy.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.state.borrow().is_serving()
    }

    /// Returns whether the server accepts calls and the model of this name is healthy.
    #[must_use]
    pub fn is_model_serving(&self, model: &str) -> bool {
        let state = self.state.borrow();
        state.is_accepting && state.models.get(model).is_some_and(|is_healthy| *is_healthy)
    }

    /// Returns the names of all services.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        let state = self.state.borrow();
        let models = state.models.keys().map(|model| format!("{MODEL_PREFIX}{model}"));
        HEALTH_NAMES.into_iter().map(ToOwned::to_owned).chain(models).collect()
    }

    /// Returns the status of the service of this name, and again after each change of it.
    pub fn watch(&self, service: String) -> impl Stream<Item = Option<bool>> + Send + 'static {
        let state = self.state.subscribe();
        stream::unfold((state, service, None), |(mut state, service, last)| async move {
            loop {
                let status = {
                    let state = state.borrow_and_update();
                    if state.is_ended {
                        return None;
                    }
                    state.status(&service)
                };
                if last != Some(status) {
                    return Some((status, (state, service, Some(status))));
                }
                state.changed().await.ok()?;
            }
        })
    }

    /// Changes the state. The server counts as started after it was first serving.
    fn update(&self, change: impl FnOnce(&mut HealthState)) {
        self.state.send_modify(|state| {
            change(state);
            let is_serving = state.is_serving();
            self.readiness.send_if_modified(|readiness| {
                let is_started = readiness.is_started || is_serving;
                let before = std::mem::replace(readiness, Readiness { is_started, is_serving });
                before != *readiness
            });
        });
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
    pub fn report(&self, is_healthy: bool) {
        self.health.update(|state| {
            state.models.insert(Arc::clone(&self.model), is_healthy);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn watch_receives_only_changes() {
        let health = Health::default();
        health.set_accepting(true);
        let mut watch = std::pin::pin!(health.watch(String::new()));
        assert_eq!(watch.next().await, Some(Some(true)));
        health.set_accepting(true);
        health.of("a".into()).report(true);
        health.set_accepting(false);
        assert_eq!(watch.next().await, Some(Some(false)));
        health.end_watches();
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn watch_of_an_unknown_service_waits_for_it() {
        let health = Health::default();
        health.set_accepting(true);
        let mut watch = std::pin::pin!(health.watch("blip.v1.BlipService/a".to_owned()));
        assert_eq!(watch.next().await, Some(None));
        health.of("a".into()).report(true);
        assert_eq!(watch.next().await, Some(Some(true)));
        health.remove("a");
        assert_eq!(watch.next().await, Some(None));
    }

    #[test]
    fn draining_server_remains_started() {
        let sender = watch::Sender::default();
        let readiness = sender.subscribe();
        let health = Health::new(sender);
        health.set_accepting(false);
        assert_eq!(*readiness.borrow(), Readiness { is_started: false, is_serving: false });
        health.set_accepting(true);
        assert_eq!(*readiness.borrow(), Readiness { is_started: true, is_serving: true });
        health.set_accepting(false);
        assert_eq!(*readiness.borrow(), Readiness { is_started: true, is_serving: false });
    }

    #[test]
    fn server_serves_only_while_all_models_are_healthy() {
        let health = Health::default();
        let (a, b) = (health.of("a".into()), health.of("b".into()));
        a.report(true);
        b.report(true);
        assert_eq!(health.status(""), Some(false));
        health.set_accepting(true);
        b.report(false);
        assert_eq!(health.status("blip.v1.BlipService/a"), Some(true));
        assert_eq!(health.status("blip.v1.BlipService/b"), Some(false));
        assert_eq!(health.status("blip.v1.BlipService"), Some(false));
        assert_eq!(health.services().len(), 4);
        health.remove("b");
        assert_eq!(health.status(""), Some(true));
        assert_eq!(health.status("blip.v1.BlipService/b"), None);
        health.set_accepting(false);
        assert_eq!(health.status("blip.v1.BlipService/a"), Some(false));
    }
}
