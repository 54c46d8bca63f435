//! The images of a batch, as the text encoder's cross-attention reads them.

use std::{
    cell::{Ref, RefCell},
    collections::BTreeMap,
};

use tch::{TchError, Tensor};

use crate::{
    batch::layout::{BatchLayout, KvSource},
    cache::{
        cross_attention::CrossAttentionCache,
        slot_pool::{SlotIndices, SlotPool},
    },
    parallel::absorbed::PackedFeatures,
};

/// The images of a batch, in the order of its layout.
#[derive(Debug)]
pub(crate) struct ImageStates<'a> {
    /// `[images, tokens, hidden]`.
    features: &'a Tensor,
    packed: PackedGroups,
    /// Cached keys and values. Without them, layers read the features.
    key_values: Option<CachedKeyValues<'a>>,
}

/// Features in the layout of the native kernels, by group of the batch layout.
///
/// The first layer that needs those of a group packs them.
#[derive(Debug, Default)]
pub(crate) struct PackedGroups(RefCell<BTreeMap<usize, Vec<PackedFeatures>>>);

/// The packed features of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedGroup<'a> {
    groups: &'a PackedGroups,
    group: usize,
}

impl PackedGroups {
    /// Returns the features of group `group`.
    pub(crate) fn group(&self, group: usize) -> PackedGroup<'_> {
        PackedGroup { groups: self, group }
    }
}

impl<'a> PackedGroup<'a> {
    /// Returns the features of each image. Calls `pack` if no layer has packed them.
    pub(super) fn get_or_pack(
        self,
        pack: impl FnOnce() -> Result<Vec<PackedFeatures>, TchError>,
    ) -> Result<Ref<'a, [PackedFeatures]>, TchError> {
        if !self.groups.0.borrow().contains_key(&self.group) {
            let packed = pack()?;
            self.groups.0.borrow_mut().insert(self.group, packed);
        }
        let groups = self.groups.0.borrow();
        Ok(Ref::map(groups, |groups| groups.get(&self.group).map_or(&[][..], Vec::as_slice)))
    }
}

/// The slots of the cache that a batch reads or writes.
#[derive(Debug)]
struct CachedKeyValues<'a> {
    cache: &'a CrossAttentionCache,
    /// For each group of the layout, the slots of its images. They are equal in all layers.
    indices: Vec<Option<SlotIndices>>,
}

impl<'a> ImageStates<'a> {
    /// Creates the states of images without cached keys and values.
    pub(crate) fn of_features(features: &'a Tensor) -> Self {
        Self { features, packed: PackedGroups::default(), key_values: None }
    }

    /// Creates the states of images whose keys and values may be in `cache`, or may be stored
    /// there.
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
        Ok(Self { features, packed: PackedGroups::default(), key_values })
    }

    /// Returns the states that layer `layer` reads.
    pub(crate) fn layer(&self, layer: usize) -> Result<LayerImageStates<'_>, TchError> {
        let key_values = match &self.key_values {
            Some(cached) => Some((cached.cache.layer(layer)?, cached.indices.as_slice())),
            None => None,
        };
        Ok(LayerImageStates { features: self.features, packed: &self.packed, key_values })
    }
}

/// The images of a batch, as one layer reads them.
#[derive(Debug)]
pub(crate) struct LayerImageStates<'a> {
    /// `[images, tokens, hidden]`, in the order of the layout.
    pub(crate) features: &'a Tensor,
    pub(crate) packed: &'a PackedGroups,
    /// Slots of keys and values in the shape of `CrossAttention::cached_shape`, and the slots of
    /// each group.
    pub(crate) key_values: Option<(SlotPool, &'a [Option<SlotIndices>])>,
}

impl<'a> LayerImageStates<'a> {
    /// Returns the packed features of group `group`.
    pub(crate) fn packed_of(&self, group: usize) -> PackedGroup<'a> {
        self.packed.group(group)
    }

    /// Returns the slots and the slot indices of group `group`.
    pub(crate) fn slots_of(&mut self, group: usize) -> Option<(&mut SlotPool, &SlotIndices)> {
        let (slots, indices) = self.key_values.as_mut()?;
        Some((slots, indices.get(group)?.as_ref()?))
    }
}
