//! The images of a batch, as the text encoder's cross-attention reads them.

use cuda::{TokenRange, TokenRanges};
use tch::{TchError, Tensor};

use crate::{
    batch::layout::{BatchLayout, ImageGroup, KvSource},
    cache::{
        cross_attention::CrossAttentionCache,
        slot_pool::{SlotIndices, SlotPool},
    },
    device::transfer::to_device,
};

/// The number of cached images of a batch from which attention reads their slots where they are.
///
/// LibTorch's other form of flash attention can divide the tokens of an image among the
/// multiprocessors of a device, which few images do not fill. With 16 images of 12 heads, all 132
/// of an H200 have work.
const MIN_RANGES: usize = 16;

/// The images of a batch, in the order of its layout.
#[derive(Debug)]
pub(crate) struct ImageStates<'a> {
    /// `[images, tokens, hidden]` of the images whose keys and values are not cached. They come
    /// first in the layout.
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
    /// For each group of the layout, the slots that are copied or written. They are equal in all
    /// layers.
    slots: Vec<Option<SlotIndices>>,
    /// The slots of all cached images, if attention reads them where they are.
    ranges: Option<TokenRanges>,
}

/// Returns the slots of the images of `group`.
fn slots_of_group<'a>(group: &ImageGroup, layout: &'a BatchLayout) -> impl Iterator<Item = i64> + use<'a> {
    group.of(&layout.sources).iter().copied().filter_map(KvSource::slot)
}

/// Returns the cached images of a batch as ranges of tokens, among those of all slots. A question
/// has `longest` positions, and a slot `tokens` tokens.
fn token_ranges(layout: &BatchLayout, longest: i64, tokens: i64) -> Vec<TokenRange> {
    let (_, cached) = layout.split_groups();
    let of_group = |group: &ImageGroup| {
        let queries = group.questions * longest;
        slots_of_group(group, layout).map(move |slot| TokenRange { start: slot * tokens, queries })
    };
    cached.iter().flat_map(of_group).collect()
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
        if layout.sources.iter().all(|source| source.slot().is_none()) {
            return Ok(Self::of_features(features));
        }
        let device = features.device();
        let ranges = match cache.range_attention {
            Some(attention) if layout.cached_images() >= MIN_RANGES => {
                let tokens = cache.tokens()?;
                let rows = token_ranges(layout, longest, tokens);
                Some(attention.ranges(&rows, tokens, |numbers| to_device(numbers, device))?)
            }
            _ => None,
        };
        let (uncached, cached) = layout.split_groups();
        let others = if ranges.is_some() { &[] } else { cached };
        let slots = uncached.iter().chain(others).map(|group| {
            let slots: Vec<i64> = slots_of_group(group, layout).collect();
            (!slots.is_empty()).then(|| SlotIndices::new(slots, device)).transpose()
        });
        let slots = slots.collect::<Result<_, TchError>>()?;
        Ok(Self { features, key_values: Some(CachedKeyValues { cache, slots, ranges }), joined: None })
    }

    /// Returns the features, unless some images have slots for keys and values.
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
        let slots = match &self.key_values {
            Some(CachedKeyValues { cache, slots, ranges }) => {
                let pool = cache.layer(layer)?;
                Some(LayerSlots { pool, of_groups: slots, ranges: ranges.as_ref() })
            }
            None => None,
        };
        let joined = self.joined.as_ref().map(|joined| joined.f_select(2, layer as i64)).transpose()?;
        Ok(LayerImageStates { features: self.features, slots, joined })
    }
}

/// The images of a batch, as one layer reads them.
#[derive(Debug)]
pub(crate) struct LayerImageStates<'a> {
    /// `[images, tokens, hidden]` of the images that are not cached, in the order of the layout.
    pub(crate) features: &'a Tensor,
    pub(crate) slots: Option<LayerSlots<'a>>,
    /// Keys and values of all images, `[images, tokens, 2 * hidden]`, if they are computed already.
    pub(crate) joined: Option<Tensor>,
}

/// The keys and values of a layer in the cache.
#[derive(Debug)]
pub(crate) struct LayerSlots<'a> {
    /// All slots, in the shape of `CrossAttention::cached_shape`.
    pub(crate) pool: SlotPool,
    /// The slots of each group that are copied or written.
    pub(crate) of_groups: &'a [Option<SlotIndices>],
    /// The slots of all cached images, if attention reads them where they are.
    pub(crate) ranges: Option<&'a TokenRanges>,
}

impl LayerImageStates<'_> {
    /// Returns the slots of all images, and which of them belong to the group `group`.
    pub(crate) fn slots_of(&mut self, group: usize) -> Option<(&mut SlotPool, &SlotIndices)> {
        let slots = self.slots.as_mut()?;
        Some((&mut slots.pool, slots.of_groups.get(group)?.as_ref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_images_are_ranges_in_the_order_of_the_layout() {
        let sources = [KvSource::Cached(4), KvSource::Compute, KvSource::Cached(0), KvSource::Cached(2)];
        let layout = BatchLayout::with_sources(&[0, 1, 0, 2, 3], 0..5, |_| sources.to_vec());
        let ranges = token_ranges(&layout, 9, 577);
        let ranges: Vec<_> = ranges.iter().map(|range| (range.start, range.queries)).collect();
        assert_eq!(ranges, [(0, 9), (1_154, 9), (2_308, 18)]);
        let (_, cached) = layout.split_groups();
        assert_eq!(cached.first().unwrap().first_row, 1);
    }
}
