//! Loads, replaces and unloads models in a [`ModelRegistry`], also while the server runs.
//!
//! A new model is loaded and passes its self-test while the current models serve. Then one atomic
//! step puts it into the registry. Calls that began with a replaced model finish on it. When the
//! last of them ends, the model is dropped, and its engine threads end.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use scheduler::EngineError;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    config::{
        Settings,
        sections::model_choice::{ModelChoice, ModelName},
    },
    error::{ErrorReason, RequestError},
    lifecycle::{
        admin::{LoadRequest, ModelAdmin},
        health::Health,
        supervisor::SupervisedModel,
    },
    models::{
        info::ModelInfo,
        loaded_model::{InferenceEngine, LoadedModel},
        registry::{Catalogue as _, ModelRegistry, named},
        source::ModelSource,
        spec::ModelSpec,
    },
};

/// Loads a model. The future may be dropped at any time.
pub type LoadModelFn<E> =
    Arc<dyn Fn(ModelSpec) -> BoxFuture<'static, anyhow::Result<LoadedModel<E>>> + Send + Sync>;

/// The maximum number of models. Each is a label of metrics and a service name of health.
pub const MAX_MODELS: usize = 64;

/// The maximum number of concurrent changes: a running one and a waiting one.
const MAX_CHANGES: usize = 2;

/// The suggested delay before a client retries a change that exceeded [`MAX_CHANGES`].
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Loads, replaces and unloads models.
pub struct ModelManager<E: InferenceEngine> {
    models: ModelRegistry<E>,
    load: LoadModelFn<E>,
    settings: Settings,
    health: Health,
    stop: CancellationToken,
    failures: mpsc::Sender<EngineError>,
    /// The supervision task of each model, by name.
    supervision: Mutex<HashMap<Arc<str>, AbortOnDropHandle<()>>>,
    /// Limits the number of running and waiting changes.
    change_permits: Semaphore,
    /// Serializes changes.
    change_lock: tokio::sync::Mutex<()>,
}

impl<E: InferenceEngine> fmt::Debug for ModelManager<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelManager").finish_non_exhaustive()
    }
}

impl<E: InferenceEngine> ModelManager<E> {
    /// Creates a manager of `models` that makes changes until `stop` is cancelled.
    ///
    /// The receiver gets the error of a model that has failed for good.
    pub fn new(
        models: ModelRegistry<E>,
        load: LoadModelFn<E>,
        settings: Settings,
        health: Health,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<EngineError>) {
        let (failures, received) = mpsc::channel(1);
        let manager = Self {
            models,
            load,
            settings,
            health,
            stop,
            failures,
            supervision: Mutex::default(),
            change_permits: Semaphore::new(MAX_CHANGES),
            change_lock: tokio::sync::Mutex::new(()),
        };
        (manager, received)
    }

    /// Loads all models of the settings, one after the other, and then serves them.
    ///
    /// # Errors
    /// The error of the first model that cannot serve.
    pub async fn load_all(&self) -> anyhow::Result<Vec<Arc<ModelInfo>>> {
        let mut supervised = Vec::new();
        for spec in ModelSpec::all(&self.settings)? {
            supervised.push(self.prepare(spec).await?);
        }
        self.models.serve(supervised.iter().map(|supervised| Arc::clone(&supervised.model)).collect());
        let mut infos = Vec::new();
        for supervised in supervised {
            let info = Arc::clone(&supervised.model.info);
            self.health.of(Arc::clone(&info.name)).report(true);
            infos.push(info);
            self.supervise(supervised);
        }
        Ok(infos)
    }

    /// Loads a model and runs its first self-test. Clients cannot use it yet.
    async fn prepare(&self, spec: ModelSpec) -> anyhow::Result<SupervisedModel<E>> {
        let model = (self.load)(spec).await?;
        SupervisedModel::warm_up(model, &self.settings).await
    }

    /// Supervises a model, in place of an earlier model of the same name.
    ///
    /// The function does not wait, so that a client that disconnects cannot interrupt a change
    /// halfway.
    fn supervise(&self, supervised: SupervisedModel<E>) {
        let info = Arc::clone(&supervised.model.info);
        let before = self.supervision().remove(&info.name);
        let health = self.health.of(Arc::clone(&info.name));
        let hang_timeout = self.settings.scheduler.config().stall_after;
        let failures = self.failures.clone();
        let task = async move {
            abort(before).await;
            let error = supervised.watch(health, hang_timeout).await;
            // The channel is full if another model has already failed, and one failure stops the
            // server.
            let _ = failures.try_send(error);
        };
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        self.supervision().insert(Arc::clone(&info.name), task);
    }

    fn supervision(&self) -> MutexGuard<'_, HashMap<Arc<str>, AbortOnDropHandle<()>>> {
        self.supervision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the supervision of all models, because the server stops.
    pub fn stop_supervision(&self) {
        self.supervision().clear();
    }

    /// Waits until the engine threads of all models have ended.
    pub async fn shut_down(&self) {
        for model in self.models.all().unwrap_or_default() {
            model.scheduler.shutdown().await;
        }
    }

    /// Makes a change after the running one, unless another one already waits or the server stops.
    async fn run_change<T>(
        &self,
        change: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        let permit = self.change_permits.try_acquire();
        let _permit =
            permit.map_err(|_| RequestError::new(ErrorReason::ModelsBusy).retry_after(RETRY_AFTER))?;
        let serialized = async {
            let _lock = self.change_lock.lock().await;
            change.await
        };
        let stopped = || Err(RequestError::new(ErrorReason::ShuttingDown));
        self.stop.run_until_cancelled(serialized).await.unwrap_or_else(stopped)
    }

    async fn load_or_replace(&self, spec: ModelSpec) -> Result<Arc<ModelInfo>, RequestError> {
        let name = Arc::clone(&spec.name);
        let models = self.models.all()?;
        let position = models.iter().position(|model| model.info.name == name);
        if position.is_none() && models.len() >= MAX_MODELS {
            let (value, limit) = (models.len().to_string(), MAX_MODELS.to_string());
            return Err(RequestError::new(ErrorReason::TooManyModels).value(value).limit(limit));
        }
        drop(models);
        tracing::info!(model = &*name, source = spec.source_text, "model load started");
        let loaded = self.prepare(spec).await.map_err(|error| {
            tracing::warn!(model = &*name, error = format!("{error:#}"), "model load failed");
            RequestError::new(ErrorReason::ModelLoadFailed).cause(format!("{error:#}"))
        })?;
        let info = Arc::clone(&loaded.model.info);
        self.models.edit(|models| {
            let mut models = models.to_vec();
            let model = Arc::clone(&loaded.model);
            match position.and_then(|position| models.get_mut(position)) {
                Some(old) => *old = model,
                None => models.push(model),
            }
            models
        })?;
        self.supervise(loaded);
        tracing::info!(model = &*name, "model loaded");
        Ok(info)
    }

    async fn remove(&self, name: &str) -> Result<(), RequestError> {
        let models = self.models.all()?;
        let removed = Arc::clone(named(&models, name).map_err(|error| error.field("name"))?);
        if models.len() == 1 {
            return Err(RequestError::new(ErrorReason::ModelLast).value(name));
        }
        drop(models);
        self.models
            .edit(|models| models.iter().filter(|model| !Arc::ptr_eq(model, &removed)).cloned().collect())?;
        let (task, health, name) = (self.supervision().remove(name), self.health.clone(), name.to_owned());
        let cleanup = async move {
            abort(task).await;
            health.remove(&name);
        };
        // A separate task, which completes even if the client disconnects now.
        let _ = tokio::spawn(cleanup).await;
        tracing::info!(model = &*removed.info.name, "model unloaded");
        Ok(())
    }

    /// Converts a request to a model specification, within what clients may request.
    fn spec(&self, request: &LoadRequest) -> Result<ModelSpec, RequestError> {
        let LoadRequest { name, source, device, dtype, conventions } = request;
        let name: ModelName = name.parse().map_err(|_| {
            let value = format!("{name:?}");
            RequestError::new(ErrorReason::ModelNameInvalid)
                .field("name")
                .value(value)
                .limit(ModelName::EXPECTED)
        })?;
        let folder: Option<&PathBuf> = self.settings.admin.model_dir.as_ref();
        let found =
            ModelSource::find_within(source, folder.map(PathBuf::as_path), self.settings.model.embedded)
                .map_err(|forbidden| {
                    let value = format!("{source:?}");
                    RequestError::new(ErrorReason::ModelSourceRefused)
                        .field("source")
                        .value(value)
                        .cause(forbidden)
                })?;
        let choice = ModelChoice {
            name: Some(name),
            device: option("device", device)?,
            dtype: option("dtype", dtype)?,
            conventions: option("flavour", conventions)?,
            ..ModelChoice::of_source(source)
        };
        Ok(ModelSpec::new(&self.settings, &choice, found))
    }
}

/// Aborts a supervision task and waits for its end, so that it no longer reports health.
async fn abort(task: Option<AbortOnDropHandle<()>>) {
    if let Some(task) = task {
        task.abort();
        // The result is the cancellation that was just requested.
        let _ = task.await;
    }
}

/// Parses an option of a request, or returns `None` if it is empty.
fn option<T: FromStr<Err = String>>(field: &str, text: &str) -> Result<Option<T>, RequestError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|cause| {
        RequestError::new(ErrorReason::ModelOptionInvalid)
            .field(field)
            .value(format!("{text:?}"))
            .cause(cause)
    })
}

impl<E: InferenceEngine> ModelAdmin for ModelManager<E> {
    fn load<'a>(&'a self, request: &'a LoadRequest) -> BoxFuture<'a, Result<Arc<ModelInfo>, RequestError>> {
        async move {
            let spec = self.spec(request)?;
            self.run_change(self.load_or_replace(spec)).await
        }
        .boxed()
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RequestError>> {
        async move {
            // An unknown name is rejected at once, without waiting for a running change.
            self.models.get(name).map_err(|error| error.field("name"))?;
            self.run_change(self.remove(name)).await
        }
        .boxed()
    }
}
