//! What is told about a server's health, by gRPC and on the metrics listener alike.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Mutex, watch};
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, HealthService},
};

use crate::monitor::Vitals;

/// The names under which the server's health is reported: the whole of it, and its service.
pub const HEALTH_NAMES: [&str; 2] = ["", "blip.v1.BlipService"];

/// The name under which a model's health is reported.
fn name_of(model: &str) -> String {
    format!("blip.v1.BlipService/{model}")
}

/// Tells the world. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    vitals: Arc<watch::Sender<Vitals>>,
    known: Arc<Mutex<Known>>,
}

/// What is known, and what was told of it.
#[derive(Debug, Default)]
struct Known {
    /// Whether calls are to come at all.
    open: bool,
    /// Which models are well.
    models: BTreeMap<Arc<str>, bool>,
    /// What was told last, by name.
    told: BTreeMap<String, bool>,
}

impl Known {
    /// Whether the server serves: it is open, and every model is well.
    fn serves(&self) -> bool {
        self.open && self.models.values().all(|well| *well)
    }
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
        Self { reporter: HealthReporter::new(), vitals: Arc::new(vitals), known: Arc::default() }
    }

    /// Opens the server, which then serves as far as its models are well, or closes it.
    pub async fn report(&self, open: bool) {
        let mut known = self.known.lock().await;
        known.open = open;
        self.tell(&mut known).await;
    }

    /// The health of the model of this name.
    #[must_use]
    pub fn of(&self, model: Arc<str>) -> ModelHealth {
        ModelHealth { health: self.clone(), model }
    }

    /// Tells of the model of this name no more.
    pub async fn forget(&self, model: &str) {
        let mut known = self.known.lock().await;
        known.models.remove(model);
        let name = name_of(model);
        known.told.remove(&name);
        self.reporter.clone().clear_service_status(&name).await;
        self.tell(&mut known).await;
    }

    /// Tells what is known as `SERVING` or `NOT_SERVING`, once for each change: who watches is told of nothing else. A server
    /// that has once served has started.
    async fn tell(&self, known: &mut Known) {
        let serving = known.serves();
        let models = known.models.iter().map(|(model, well)| (name_of(model), known.open && *well));
        let all = HEALTH_NAMES.map(|name| (name.to_owned(), serving)).into_iter().chain(models);
        for (name, serving) in all.collect::<Vec<_>>() {
            if known.told.get(&name) == Some(&serving) {
                continue;
            }
            if name.is_empty() {
                self.vitals
                    .send_modify(|vitals| *vitals = Vitals { started: vitals.started || serving, serving });
            }
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(&name, status).await;
            known.told.insert(name, serving);
        }
    }

    /// Ends the health watches, which would keep their connections open for ever.
    pub async fn end_watches(&mut self) {
        let told = std::mem::take(&mut self.known.lock().await.told);
        for name in told.keys() {
            self.reporter.clear_service_status(name).await;
        }
    }

    /// The gRPC service.
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
    /// Reports whether the model is well.
    pub async fn report(&self, well: bool) {
        let mut known = self.health.known.lock().await;
        known.models.insert(Arc::clone(&self.model), well);
        self.health.tell(&mut known).await;
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

    #[tokio::test]
    async fn a_server_is_as_well_as_its_models_and_each_has_a_name_of_its_own() {
        let health = Health::default();
        let told = async |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            let told = health.service().check(tonic::Request::new(request)).await;
            told.ok().map(|response| response.into_inner().status())
        };
        let (a, b) = (health.of("a".into()), health.of("b".into()));
        a.report(true).await;
        b.report(true).await;
        assert_eq!(told("").await, Some(Told::NotServing));
        health.report(true).await;
        b.report(false).await;
        assert_eq!(told("blip.v1.BlipService/a").await, Some(Told::Serving));
        assert_eq!(told("blip.v1.BlipService/b").await, Some(Told::NotServing));
        assert_eq!(told("blip.v1.BlipService").await, Some(Told::NotServing));
        health.forget("b").await;
        assert_eq!(told("").await, Some(Told::Serving));
        assert_eq!(told("blip.v1.BlipService/b").await, None);
        health.report(false).await;
        assert_eq!(told("blip.v1.BlipService/a").await, Some(Told::NotServing));
    }
}
