//! The images of a batch, as the layers of the question encoder read them.

use tch::{TchError, Tensor};

use crate::{key_value_cache::KeyValueCache, slots::Slots};

/// What the question encoder knows of a batch's images, in the order of the batch's fold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageMemory<'a> {
    /// `[images, tokens, hidden]`.
    features: &'a Tensor,
    /// Where the fold says that keys and values are kept; without it the features do.
    key_values: Option<&'a KeyValueCache>,
}

impl<'a> ImageMemory<'a> {
    /// Images of which only the features are there.
    pub(crate) fn of_features(features: &'a Tensor) -> Self {
        Self { features, key_values: None }
    }

    /// Images of which some have, or will have, keys and values in the cache.
    pub(crate) fn new(features: &'a Tensor, key_values: &'a KeyValueCache) -> Self {
        Self { features, key_values: Some(key_values) }
    }

    /// What layer number `layer` reads.
    pub(crate) fn layer(&self, layer: usize) -> Result<LayerMemory<'a>, TchError> {
        let key_values = self.key_values.filter(|cache| cache.len() > 0);
        Ok(LayerMemory {
            features: self.features,
            key_values: key_values.map(|cache| cache.layer(layer)).transpose()?,
        })
    }
}

/// The images of a batch, as one layer reads them.
#[derive(Debug)]
pub(crate) struct LayerMemory<'a> {
    /// `[images, tokens, hidden]`, in the order of the fold.
    pub(crate) features: &'a Tensor,
    /// `[slots, tokens, 2 * hidden]`: keys and values of the images that have a slot.
    pub(crate) key_values: Option<Slots>,
}
