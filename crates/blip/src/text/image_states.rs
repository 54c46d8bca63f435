//! The images of a batch, as the layers of the question encoder read them.

use tch::{TchError, Tensor};

use crate::{
    batch::layout::{BatchLayout, KvSource},
    cache::{
        cross_attention::CrossAttentionCache,
        slot_pool::{SlotIndices, SlotPool},
    },
};

/// What the question encoder knows of a batch's images, in the order of the batch's layout.
#[derive(Debug)]
pub(crate) struct ImageStates<'a> {
    /// `[images, tokens, hidden]`.
    features: &'a Tensor,
    /// Where the layout says that keys and values are kept; without it the features do.
    key_values: Option<CachedKeyValues<'a>>,
}

/// What a batch reads of the cache, or writes to it.
#[derive(Debug)]
struct CachedKeyValues<'a> {
    cache: &'a CrossAttentionCache,
    /// For each group of the layout, where its images' keys and values are, or will be; the same in all layers.
    indices: Vec<Option<SlotIndices>>,
}

impl<'a> ImageStates<'a> {
    /// Images of which only the features are there.
    pub(crate) fn of_features(features: &'a Tensor) -> Self {
        Self { features, key_values: None }
    }

    /// Images of which some have, or will have, keys and values in the cache.
    pub(crate) fn new(
        features: &'a Tensor,
        cache: &'a CrossAttentionCache,
        layout: &BatchLayout,
    ) -> Result<Self, TchError> {
        let indices = layout.groups.iter().map(|group| {
            let slots: Vec<i64> =
                group.of(&layout.sources).iter().copied().filter_map(KvSource::slot).collect();
            (!slots.is_empty()).then(|| SlotIndices::new(slots, features.device())).transpose()
        });
        let indices = indices.collect::<Result<Vec<_>, TchError>>()?;
        let key_values = indices.iter().any(Option::is_some).then_some(CachedKeyValues { cache, indices });
        Ok(Self { features, key_values })
    }

    /// What layer number `layer` reads.
    pub(crate) fn layer(&self, layer: usize) -> Result<LayerImageStates<'_>, TchError> {
        let key_values = match &self.key_values {
            Some(cached) => Some((cached.cache.layer(layer)?, cached.indices.as_slice())),
            None => None,
        };
        Ok(LayerImageStates { features: self.features, key_values })
    }
}

/// The images of a batch, as one layer reads them.
#[derive(Debug)]
pub(crate) struct LayerImageStates<'a> {
    /// `[images, tokens, hidden]`, in the order of the layout.
    pub(crate) features: &'a Tensor,
    /// `[slots, tokens, 2 * hidden]`: keys and values of the images that have a slot, and each group's places there.
    pub(crate) key_values: Option<(SlotPool, &'a [Option<SlotIndices>])>,
}

impl LayerImageStates<'_> {
    /// The slots, and the places there of group number `group`.
    pub(crate) fn slots_of(&mut self, group: usize) -> Option<(&mut SlotPool, &SlotIndices)> {
        let (slots, indices) = self.key_values.as_mut()?;
        Some((slots, indices.get(group)?.as_ref()?))
    }
}
