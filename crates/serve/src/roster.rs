//! Changes which models there are: at the start, and while calls are answered.
//!
//! A model is loaded and answers a question beside those that serve; only then is it put in its place, which is one step.
//! Calls that have found the old one end on it, and when the last of them is over nothing holds it any more and its engine
//! threads end.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use scheduler::EngineError;
use tokio::sync::{Mutex as Turn, Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    admin::Change,
    attend::Attended,
    description::Description,
    errors::{Reason, Refusal},
    frontend::{Answering, Pipeline},
    health::Health,
    model_plan::ModelPlan,
    model_source::ModelSource,
    models::{Catalogue as _, Models, named},
    proto::{LoadModelRequest, Model},
    settings::{ModelChoice, ModelName, Settings},
};

/// Makes a model that is wanted. May be dropped at any time.
pub type Loader<E> = Arc<dyn Fn(ModelPlan) -> BoxFuture<'static, anyhow::Result<Pipeline<E>>> + Send + Sync>;

/// Models at a time: each is a label of metrics and a name of health.
pub const MAX_MODELS: usize = 64;

/// Changes at a time: one that is made, and one that waits for it.
const CHANGES: usize = 2;

/// When to try again whose change found no room.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The hand that changes [`Models`].
pub struct Roster<E: Answering> {
    models: Models<E>,
    loader: Loader<E>,
    settings: Settings,
    health: Health,
    stop: CancellationToken,
    broken: mpsc::Sender<EngineError>,
    watches: Mutex<HashMap<Arc<str>, AbortOnDropHandle<()>>>,
    room: Semaphore,
    turn: Turn<()>,
}

impl<E: Answering> fmt::Debug for Roster<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").finish_non_exhaustive()
    }
}

impl<E: Answering> Roster<E> {
    /// Changes `models`, with what `loader` makes, until `stop`. A model that is past saving is told to the receiver.
    pub fn new(
        models: Models<E>,
        loader: Loader<E>,
        settings: Settings,
        health: Health,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<EngineError>) {
        let (broken, is_broken) = mpsc::channel(1);
        let (watches, room, turn) = (Mutex::default(), Semaphore::new(CHANGES), Turn::new(()));
        (Self { models, loader, settings, health, stop, broken, watches, room, turn }, is_broken)
    }

    /// Loads all models that the settings name, one after the other; then calls are answered.
    ///
    /// # Errors
    /// Why the first of them that cannot serve cannot.
    pub async fn open(&self) -> anyhow::Result<Vec<Arc<Description>>> {
        let mut attended = Vec::new();
        for wanted in ModelPlan::all(&self.settings)? {
            attended.push(self.prepare(wanted).await?);
        }
        self.models.open(attended.iter().map(|model| Arc::clone(&model.pipeline)).collect());
        let mut descriptions = Vec::new();
        for model in attended {
            let description = Arc::clone(&model.pipeline.description);
            self.health.of(Arc::clone(&description.name)).report(true).await;
            descriptions.push(description);
            self.watch_over(model);
        }
        Ok(descriptions)
    }

    /// A model that has answered, and that no caller finds yet.
    async fn prepare(&self, wanted: ModelPlan) -> anyhow::Result<Attended<E>> {
        let pipeline = (self.loader)(wanted).await?;
        Attended::warm_up(pipeline, &self.settings).await
    }

    /// Watches over a model instead of the one of its name that was there. It waits for nothing: a change that has been made
    /// cannot be left half done by a caller who hangs up.
    fn watch_over(&self, model: Attended<E>) {
        let description = Arc::clone(&model.pipeline.description);
        let before = self.watches().remove(&description.name);
        let health = self.health.of(Arc::clone(&description.name));
        let hang_limit = self.settings.scheduler.config().stall_after;
        let broken = self.broken.clone();
        let watch = async move {
            end(before).await;
            let error = model.watch(health, hang_limit).await;
            // Whoever comes second is not needed any more.
            let _ = broken.try_send(error);
        };
        let watch = AbortOnDropHandle::new(tokio::spawn(watch));
        self.watches().insert(Arc::clone(&description.name), watch);
    }

    fn watches(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, AbortOnDropHandle<()>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches over no model any longer, as the server stops.
    pub fn stop_watching(&self) {
        self.watches().clear();
    }

    /// Waits until the engine threads of all models have ended.
    pub async fn shut_down(&self) {
        for pipeline in self.models.all().unwrap_or_default() {
            pipeline.scheduler.shutdown().await;
        }
    }

    /// Makes a change when its turn has come, unless two are ahead of it or the server stops.
    async fn in_turn<T>(&self, change: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let room = self.room.try_acquire();
        let _room = room.map_err(|_| Refusal::new(Reason::ModelsBusy).retry_after(RETRY_AFTER))?;
        let in_turn = async {
            let _turn = self.turn.lock().await;
            change.await
        };
        let stopped = || Err(Refusal::new(Reason::ShuttingDown));
        self.stop.run_until_cancelled(in_turn).await.unwrap_or_else(stopped)
    }

    async fn replace(&self, wanted: ModelPlan) -> Result<Model, Refusal> {
        let name = Arc::clone(&wanted.name);
        let pipelines = self.models.all()?;
        let place = pipelines.iter().position(|pipeline| pipeline.description.name == name);
        if place.is_none() && pipelines.len() >= MAX_MODELS {
            let (value, limit) = (pipelines.len().to_string(), MAX_MODELS.to_string());
            return Err(Refusal::new(Reason::TooManyModels).value(value).limit(limit));
        }
        drop(pipelines);
        tracing::info!(model = &*name, source = wanted.written, "loading a model");
        let loaded = self.prepare(wanted).await.map_err(|error| {
            tracing::warn!(model = &*name, "a model cannot be loaded: {error:#}");
            Refusal::new(Reason::ModelLoadFailed).cause(format!("{error:#}"))
        })?;
        let told = loaded.pipeline.to_proto();
        self.models.edit(|pipelines| {
            let mut pipelines = pipelines.to_vec();
            let pipeline = Arc::clone(&loaded.pipeline);
            match place.and_then(|place| pipelines.get_mut(place)) {
                Some(old) => *old = pipeline,
                None => pipelines.push(pipeline),
            }
            pipelines
        })?;
        self.watch_over(loaded);
        tracing::info!(model = &*name, "a model has been loaded");
        Ok(told)
    }

    async fn remove(&self, name: &str) -> Result<(), Refusal> {
        let pipelines = self.models.all()?;
        let gone = Arc::clone(named(&pipelines, name).map_err(|refusal| refusal.field("name"))?);
        if pipelines.len() == 1 {
            return Err(Refusal::new(Reason::ModelLast).value(name));
        }
        drop(pipelines);
        self.models.edit(|pipelines| {
            pipelines.iter().filter(|pipeline| !Arc::ptr_eq(pipeline, &gone)).cloned().collect()
        })?;
        let (watch, health, name) = (self.watches().remove(name), self.health.clone(), name.to_owned());
        let forgotten = async move {
            end(watch).await;
            health.forget(&name).await;
        };
        // Comes to its end even if the caller hangs up now.
        let _ = tokio::spawn(forgotten).await;
        tracing::info!(model = &*gone.description.name, "a model has been taken away");
        Ok(())
    }

    /// What a request wants, as far as a caller may want it.
    fn wanted(&self, request: &LoadModelRequest) -> Result<ModelPlan, Refusal> {
        let LoadModelRequest { name, source, device, dtype, flavour } = request;
        let name: ModelName = name.parse().map_err(|_| {
            let value = format!("{name:?}");
            Refusal::new(Reason::ModelNameInvalid).field("name").value(value).limit(ModelName::EXPECTED)
        })?;
        let folder: Option<&PathBuf> = self.settings.admin.model_dir.as_ref();
        let found = ModelSource::find_within(source, folder.map(PathBuf::as_path)).map_err(|forbidden| {
            let value = format!("{source:?}");
            Refusal::new(Reason::ModelSourceRefused).field("source").value(value).cause(forbidden)
        })?;
        let choice = ModelChoice {
            name: Some(name),
            device: option("device", device)?,
            dtype: option("dtype", dtype)?,
            flavour: option("flavour", flavour)?,
            ..ModelChoice::of_source(source)
        };
        Ok(ModelPlan::new(&self.settings, &choice, found))
    }
}

/// Ends a watch; afterwards it tells nothing any more.
async fn end(watch: Option<AbortOnDropHandle<()>>) {
    if let Some(watch) = watch {
        watch.abort();
        // It ends as one that was called off, which is what is wanted.
        let _ = watch.await;
    }
}

/// An option of a request; none if it is empty.
fn option<T: std::str::FromStr<Err = String>>(field: &str, text: &str) -> Result<Option<T>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|cause| invalid(field, text, cause))
}

fn invalid(field: &str, value: &str, cause: String) -> Refusal {
    Refusal::new(Reason::ModelOptionInvalid).field(field).value(format!("{value:?}")).cause(cause)
}

impl<E: Answering> Change for Roster<E> {
    fn load<'a>(&'a self, request: &'a LoadModelRequest) -> BoxFuture<'a, Result<Model, Refusal>> {
        async move {
            let wanted = self.wanted(request)?;
            self.in_turn(self.replace(wanted)).await
        }
        .boxed()
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            // So that a name that is not there need not wait to be told so.
            self.models.get(name).map_err(|refusal| refusal.field("name"))?;
            self.in_turn(self.remove(name)).await
        }
        .boxed()
    }
}
