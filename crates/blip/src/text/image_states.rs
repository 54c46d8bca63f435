//! The images of a batch, as the text encoder's cross-attention reads them.

use cuda::TokenRanges;
use tch::{Device, TchError, Tensor};

use crate::{
    batch::layout::{BatchLayout, ImageGroup, KvSource},
    cache::{
        cross_attention::CrossAttentionCache,
        slot_pool::{SlotIndices, SlotPool},
    },
    device::transfer::to_device,
};

/// The number of images of a group from which attention reads their slots where they are.
///
/// LibTorch's other form of flash attention can divide the tokens of an image among the
/// multiprocessors of a device, which few images do not fill. With 16 images of 12 heads, all 132
/// of an H200 have work.
const MIN_RANGES: usize = 16;

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
    slots: Vec<Option<GroupSlots>>,
}

/// The slots of a group of images.
#[derive(Debug)]
pub(crate) enum GroupSlots {
    /// They are copied, or written.
    Indices(SlotIndices),
    /// Attention reads them where they are.
    Ranges(TokenRanges),
}

impl GroupSlots {
    /// Creates the slots of `group`, whose questions have `longest` positions each. It is `None` if
    /// no image has a slot.
    fn new(
        cache: &CrossAttentionCache,
        sources: &[KvSource],
        group: &ImageGroup,
        longest: i64,
        device: Device,
    ) -> Result<Option<Self>, TchError> {
        let slots: Vec<i64> = sources.iter().copied().filter_map(KvSource::slot).collect();
        if slots.is_empty() {
            return Ok(None);
        }
        if let (Some(attention), Some(KvSource::Cached(_))) = (cache.range_attention, sources.first())
            && slots.len() >= MIN_RANGES
        {
            let (tokens, queries) = (cache.tokens()?, group.questions * longest);
            let starts = token_starts(&slots, tokens);
            let ranges = attention.ranges(starts, queries, tokens, |numbers| to_device(numbers, device))?;
            return Ok(Some(Self::Ranges(ranges)));
        }
        Ok(Some(Self::Indices(SlotIndices::new(slots, device)?)))
    }
}

/// Returns the index of the first token of each slot, among the tokens of all slots.
fn token_starts(slots: &[i64], tokens: i64) -> impl ExactSizeIterator<Item = i64> + Clone {
    slots.iter().map(move |slot| slot * tokens)
}

impl<'a> ImageStates<'a> {
    /// Creates the states of images without cached keys and values.
    pub(crate) fn of_features(features: &'a Tensor) -> Self {
        Self { features, key_values: None, joined: None }
    }

    /// Creates the states of images whose keys and values may be in `cache`, or may be stored
    /// there. A question has `longest` positions, with padding.
    pub(crate) fn new(
        features: &'a Tensor,
        cache: &'a CrossAttentionCache,
        layout: &BatchLayout,
        longest: i64,
    ) -> Result<Self, TchError> {
        let slots = layout.groups.iter().map(|group| {
            GroupSlots::new(cache, group.of(&layout.sources), group, longest, features.device())
        });
        let slots = slots.collect::<Result<Vec<_>, TchError>>()?;
        let key_values = slots.iter().any(Option::is_some).then_some(CachedKeyValues { cache, slots });
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
            Some(cached) => Some((cached.cache.layer(layer)?, cached.slots.as_slice())),
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
    pub(crate) key_values: Option<(SlotPool, &'a [Option<GroupSlots>])>,
    /// Keys and values of all images, `[images, tokens, 2 * hidden]`, if they are computed already.
    pub(crate) joined: Option<Tensor>,
}

impl LayerImageStates<'_> {
    /// Returns the slots of all images, and which of them belong to the group `group`.
    pub(crate) fn slots_of(&mut self, group: usize) -> Option<(&mut SlotPool, &GroupSlots)> {
        let (pool, slots) = self.key_values.as_mut()?;
        Some((pool, slots.get(group)?.as_ref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_start_after_the_tokens_of_those_before_them() {
        assert_eq!(token_starts(&[4, 0, 2], 577).collect::<Vec<_>>(), [2_308, 0, 1_154]);
    }
}
