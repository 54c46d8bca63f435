//! The models that a server has, by name, in order. They change while calls are answered: a call keeps the one that it found.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use blip::Architecture;
use scheduler::{EngineError, Snapshot};

use crate::{
    description::{Description, deed},
    errors::{Reason, Refusal},
    frontend::{Answering, Pipeline},
    gate::Gate,
    proto::Model,
};

/// Names that a message tells at most.
const TOLD_NAMES: usize = 8;

/// Tells which models there are.
pub trait Catalogue: Send + Sync + 'static {
    /// All of them, in order.
    ///
    /// # Errors
    /// A [`Refusal`] while there are none.
    fn list(&self) -> Result<Vec<Model>, Refusal>;

    /// The one of this name; the first if it is empty.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none.
    fn get(&self, name: &str) -> Result<Model, Refusal>;
}

impl fmt::Debug for dyn Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Catalogue")
    }
}

/// The models. Clones are the same.
#[derive(Debug)]
pub struct Models<E: Answering>(Arc<ArcSwap<Gate<E>>>);

impl<E: Answering> Clone for Models<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Answering> Models<E> {
    /// None yet.
    #[must_use]
    pub fn loading() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Gate::Loading)))
    }

    /// These, in this order.
    #[must_use]
    pub fn of(pipelines: Vec<Arc<Pipeline<E>>>) -> Self {
        let models = Self::loading();
        models.open(pipelines);
        models
    }

    /// From now on there are these, in this order.
    pub fn open(&self, pipelines: Vec<Arc<Pipeline<E>>>) {
        self.0.store(Arc::new(Gate::Open(pipelines)));
    }

    /// From now on there are those that `edit` makes of the ones that are there.
    ///
    /// # Errors
    /// A [`Refusal`] while there are none.
    pub fn edit(&self, edit: impl Fn(&[Arc<Pipeline<E>>]) -> Vec<Arc<Pipeline<E>>>) -> Result<(), Refusal> {
        let before = self.0.rcu(|gate| match gate.pipelines() {
            Ok(pipelines) => Arc::new(Gate::Open(edit(pipelines))),
            Err(_) => Arc::clone(gate),
        });
        before.pipelines().map(|_| ())
    }

    /// From now on calls are answered by none, for `error`.
    pub fn break_off(&self, error: &EngineError) {
        self.0.rcu(|gate| Arc::new(Gate::Broken(error.clone(), gate.there().to_vec())));
    }

    /// All of them.
    ///
    /// # Errors
    /// A [`Refusal`] while there are none.
    pub fn all(&self) -> Result<Vec<Arc<Pipeline<E>>>, Refusal> {
        self.0.load().pipelines().map(<[_]>::to_vec)
    }

    /// The model of this name, or the first of this architecture if the name is empty.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none, or the one of this name is of another architecture.
    pub fn find(&self, name: &str, architecture: Architecture) -> Result<Arc<Pipeline<E>>, Refusal> {
        let gate = self.0.load();
        let pipelines = gate.pipelines()?;
        let fits = |pipeline: &&Arc<Pipeline<E>>| pipeline.description.architecture == architecture;
        if name.is_empty() {
            return pipelines
                .iter()
                .find(fits)
                .cloned()
                .ok_or_else(|| mismatch(format!("no model here {}", deed(architecture))));
        }
        let named = named(pipelines, name)?;
        if fits(&named) {
            return Ok(Arc::clone(named));
        }
        let others = pipelines.iter().filter(fits).map(|pipeline| &*pipeline.description.name);
        let other = match told_names(others) {
            names if names.is_empty() => format!("no model here {}", deed(architecture)),
            names => format!("{names} {}", deed(architecture)),
        };
        Err(mismatch(format!("{name} {}, {other}", deed(named.description.architecture))))
    }

    /// What waits and runs for each, also for those that answer no more since an engine has broken.
    #[must_use]
    pub fn snapshots(&self) -> Vec<(Arc<Description>, Snapshot)> {
        let look =
            |pipeline: &Arc<Pipeline<E>>| (Arc::clone(&pipeline.description), pipeline.scheduler.snapshot());
        self.0.load().there().iter().map(look).collect()
    }
}

impl<E: Answering> Catalogue for Models<E> {
    fn list(&self) -> Result<Vec<Model>, Refusal> {
        Ok(self.0.load().pipelines()?.iter().map(|pipeline| pipeline.to_proto()).collect())
    }

    fn get(&self, name: &str) -> Result<Model, Refusal> {
        let gate = self.0.load();
        let pipelines = gate.pipelines()?;
        match pipelines.first() {
            Some(first) if name.is_empty() => Ok(first.to_proto()),
            _ => Ok(named(pipelines, name)?.to_proto()),
        }
    }
}

/// The model of this name.
///
/// # Errors
/// A [`Refusal`] that tells which there are.
pub fn named<'a, E: Answering>(
    pipelines: &'a [Arc<Pipeline<E>>],
    name: &str,
) -> Result<&'a Arc<Pipeline<E>>, Refusal> {
    pipelines.iter().find(|pipeline| &*pipeline.description.name == name).ok_or_else(|| {
        let names = told_names(pipelines.iter().map(|pipeline| &*pipeline.description.name));
        Refusal::new(Reason::ModelUnknown).field("model").value(format!("{name:?}")).limit(names)
    })
}

fn mismatch(cause: String) -> Refusal {
    Refusal::new(Reason::ModelTaskMismatch).field("model").cause(cause)
}

/// The first of these names, so that a message stays one.
fn told_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.take(TOLD_NAMES + 1).collect();
    if names.len() > TOLD_NAMES {
        names.truncate(TOLD_NAMES);
        names.push("others");
    }
    names.join(", ")
}
