//! A cache of decoded images at the model's input size, by the digest of the image file.

use std::sync::Arc;

use blip::Pixels;
use images::ImageDigest;
use quick_cache::{Weighter, sync::Cache};

use crate::cache::metrics::PixelCacheMetrics;

/// An upper bound of the memory of an entry without its pixels, in bytes.
const OVERHEAD_BYTES: u64 = 128;

/// The pixel cache of one model, limited by bytes. It evicts rarely used images first.
#[derive(Debug)]
pub struct PixelCache {
    entries: Option<Cache<[u8; 32], Arc<Pixels>, PixelWeighter>>,
    metrics: PixelCacheMetrics,
}

#[derive(Clone, Debug)]
struct PixelWeighter;

impl Weighter<[u8; 32], Arc<Pixels>> for PixelWeighter {
    fn weight(&self, _: &[u8; 32], pixels: &Arc<Pixels>) -> u64 {
        pixels.data().len() as u64 + OVERHEAD_BYTES
    }
}

impl PixelCache {
    /// Creates a cache of at most `capacity_bytes` for images of `image_bytes` each.
    ///
    /// A cache that is smaller than one image is always empty.
    #[must_use]
    pub fn new(capacity_bytes: usize, image_bytes: usize) -> Self {
        let images = capacity_bytes / image_bytes.max(1);
        let cache = || Cache::with_weighter(images, capacity_bytes as u64, PixelWeighter);
        Self { entries: (images > 0).then(cache), metrics: PixelCacheMetrics::new() }
    }

    /// Returns the cached pixels of the file with this digest.
    #[must_use]
    pub fn get(&self, key: &ImageDigest) -> Option<Arc<Pixels>> {
        self.entries.as_ref()?.get(&key.0).inspect(|_| self.metrics.record_hit())
    }

    /// Stores the pixels of a file that was decoded.
    ///
    /// Counts the image as decoded even if it is not stored.
    pub fn insert(&self, key: &ImageDigest, pixels: &Arc<Pixels>) {
        if let Some(cache) = &self.entries {
            cache.insert(key.0, Arc::clone(pixels));
        }
        self.metrics.record_decoded(self.entries.as_ref().map_or(0, Cache::weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(shade: u8) -> Arc<Pixels> {
        Arc::new(Pixels::new(10, 10, vec![shade; 300]).unwrap())
    }

    #[test]
    fn inserted_pixels_are_found_within_the_capacity() {
        let cache = PixelCache::new(10 * 428, 300);
        cache.insert(&ImageDigest([7; 32]), &pixels(7));
        assert_eq!(cache.get(&ImageDigest([7; 32])).unwrap().data(), pixels(7).data());
        for number in 0..=255 {
            cache.insert(&ImageDigest([number; 32]), &pixels(number));
        }
        let cached: Vec<_> = (0..=255).filter_map(|number| cache.get(&ImageDigest([number; 32]))).collect();
        assert!((1..=10).contains(&cached.len()), "{}", cached.len());
    }

    #[test]
    fn cache_without_capacity_is_always_empty() {
        let cache = PixelCache::new(0, 300);
        cache.insert(&ImageDigest([7; 32]), &pixels(7));
        assert!(cache.get(&ImageDigest([7; 32])).is_none());
    }
}
