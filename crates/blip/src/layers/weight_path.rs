//! A place in the tree of names.

use std::{borrow::Cow, fmt::Display};

use tch::{Device, Kind, Tensor};

use crate::{checkpoint::weights::Weights, error::LoadError, layers::fused_norm::FusedNorms};

/// A place in the tree of names, with the device and kind that tensors are loaded to, and the kernels that norms have there.
#[derive(Debug, Clone)]
pub(crate) struct WeightPath<'a> {
    weights: &'a Weights,
    prefix: Cow<'a, str>,
    device: Device,
    kind: Kind,
    fused_norms: Option<&'a FusedNorms>,
}

impl<'a> WeightPath<'a> {
    pub(crate) fn root(weights: &'a Weights, device: Device, kind: Kind) -> Self {
        Self { weights, prefix: Cow::Borrowed(""), device, kind, fused_norms: None }
    }

    /// With kernels of our own for the norms that are loaded below.
    pub(crate) fn with_fused_norms(self, fused_norms: Option<&'a FusedNorms>) -> Self {
        Self { fused_norms, ..self }
    }

    /// Kernels of our own for norms, if there are any.
    pub(crate) fn fused_norms(&self) -> Option<&'a FusedNorms> {
        self.fused_norms
    }

    /// The scope below `name`.
    pub(crate) fn at(&self, name: impl Display) -> Self {
        Self { prefix: Cow::Owned(self.name(name)), ..self.clone() }
    }

    fn name(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// Loads `name` below this path.
    pub(crate) fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, LoadError> {
        self.weights.load(&self.name(name), shape, self.device, self.kind)
    }

    /// Loads the first of `names`, full names from the root, that the files hold.
    pub(crate) fn first_of(&self, names: [&str; 2], shape: &[i64]) -> Result<Tensor, LoadError> {
        let [first, second] = names;
        let name = if self.weights.contains(first) { first } else { second };
        self.weights.load(name, shape, self.device, self.kind)
    }
}
