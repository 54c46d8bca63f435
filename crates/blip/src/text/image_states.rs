//! The images of a batch, as the text encoder's cross-attention reads them.

use cuda::PlacedAttention;
use tch::{TchError, Tensor};

use crate::{
    batch::layout::{BatchLayout, KvSource},
    cache::{
        cross_attention::CrossAttentionCache,
        slot_pool::{SlotIndices, SlotPool},
    },
    device::transfer::to_device,
};

/// The number of cached images from which attention reads them where they are.
///
/// LibTorch's attention to fewer images divides the tokens of an image among several
/// multiprocessors. Attention by place does not. With 16 images of 12 heads, each of the 132
/// multiprocessors of an H200 has work.
const MIN_PLACED_IMAGES: usize = 16;

/// The images of a batch, in the order of its layout.
#[derive(Debug)]
pub(crate) struct ImageStates<'a> {
    /// `[images, tokens, hidden]`.
    features: &'a Tensor,
    /// Cached keys and values. Without them, layers read the features.
    key_values: Option<CachedKeyValues<'a>>,
    /// Keys and values of all layers, `[images, tokens, layers, 2 * hidden]`, if they were computed
    /// together. Then none are cached.
    joined: Option<Tensor>,
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
        Self { features, key_values: None, joined: None }
    }

    /// Creates the states of images whose keys and values may be in `cache`, or may be stored
    /// there.
    ///
    /// `placed`, if there is one, reads many cached images where they are. Questions have `longest`
    /// positions.
    pub(crate) fn new(
        features: &'a Tensor,
        cache: &'a CrossAttentionCache,
        layout: &BatchLayout,
        placed: Option<PlacedAttention>,
        longest: i64,
    ) -> Result<Self, TchError> {
        let tokens = features.size3()?.1;
        let indices = layout.groups.iter().map(|group| {
            let sources = group.of(&layout.sources);
            let slots: Vec<i64> = sources.iter().copied().filter_map(KvSource::slot).collect();
            if slots.is_empty() {
                return Ok(None);
            }
            let device = features.device();
            let places = match (placed, sources.first()) {
                (Some(placed), Some(KvSource::Cached(_))) if slots.len() >= MIN_PLACED_IMAGES => {
                    let starts = slots.iter().map(|slot| slot * tokens);
                    let queries = group.questions * longest;
                    Some(placed.places(starts, queries, tokens, |numbers| to_device(numbers, device))?)
                }
                _ => None,
            };
            let indices = SlotIndices::new(slots, device)?;
            Ok(Some(match places {
                Some(places) => indices.with_places(places),
                None => indices,
            }))
        });
        let indices = indices.collect::<Result<Vec<_>, TchError>>()?;
        let key_values = indices.iter().any(Option::is_some).then_some(CachedKeyValues { cache, indices });
        Ok(Self { features, key_values, joined: None })
    }

    /// Returns the features, unless keys and values of some images are cached.
    pub(crate) fn uncached_features(&self) -> Option<&'a Tensor> {
        self.key_values.is_none().then_some(self.features)
    }

    /// Creates the states of images whose keys and values of all layers are `joined` `[images,
    /// tokens, layers, 2 * hidden]`.
    pub(crate) fn of_joined(features: &'a Tensor, joined: Tensor) -> Self {
        Self { joined: Some(joined), ..Self::of_features(features) }
    }

    /// Returns the states that layer `layer` reads.
    pub(crate) fn layer(&self, layer: usize) -> Result<LayerImageStates<'_>, TchError> {
        let key_values = match &self.key_values {
            Some(cached) => Some((cached.cache.layer(layer)?, cached.indices.as_slice())),
            None => None,
        };
        let joined = self.joined.as_ref().map(|joined| joined.f_select(2, layer as i64)).transpose()?;
        Ok(LayerImageStates { features: self.features, key_values, joined })
    }
}

/// The images of a batch, as one layer reads them.
#[derive(Debug)]
pub(crate) struct LayerImageStates<'a> {
    /// `[images, tokens, hidden]`, in the order of the layout.
    pub(crate) features: &'a Tensor,
    /// Slots of keys and values in the shape of `CrossAttention::cached_shape`, and the slots of
    /// each group.
    pub(crate) key_values: Option<(SlotPool, &'a [Option<SlotIndices>])>,
    /// Keys and values of all images, `[images, tokens, 2 * hidden]`, if they are computed already.
    pub(crate) joined: Option<Tensor>,
}

impl LayerImageStates<'_> {
    /// Returns the slots and the slot indices of group `group`.
    pub(crate) fn slots_of(&mut self, group: usize) -> Option<(&mut SlotPool, &SlotIndices)> {
        let (slots, indices) = self.key_values.as_mut()?;
        Some((slots, indices.get(group)?.as_ref()?))
    }
}
