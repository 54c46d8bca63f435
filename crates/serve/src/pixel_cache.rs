//! Images at the model's size, kept by the digests of their files: a file that comes again is not decoded again.

use std::sync::Arc;

use blip::Pixels;
use quick_cache::{Weighter, sync::Cache};
use scheduler::ImageKey;

use crate::monitor::KeptPixels;

/// What an entry takes beside its pixels, in bytes, generously counted.
const OVERHEAD_BYTES: u64 = 128;

/// A bounded number of bytes of pixels; those asked for seldom go first.
#[derive(Debug)]
pub struct PixelCache {
    kept: Option<Cache<[u8; 32], Arc<Pixels>, Bytes>>,
    meters: KeptPixels,
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<[u8; 32], Arc<Pixels>> for Bytes {
    fn weight(&self, _: &[u8; 32], pixels: &Arc<Pixels>) -> u64 {
        pixels.data().len() as u64 + OVERHEAD_BYTES
    }
}

impl PixelCache {
    /// A cache of at most `capacity_bytes`; of none, it keeps nothing.
    #[must_use]
    pub fn new(capacity_bytes: usize, image_bytes: usize) -> Self {
        let images = capacity_bytes / image_bytes.max(1);
        let cache = || Cache::with_weighter(images, capacity_bytes as u64, Bytes);
        Self { kept: (images > 0).then(cache), meters: KeptPixels::new() }
    }

    /// The pixels of the file with this digest.
    #[must_use]
    pub fn get(&self, key: &ImageKey) -> Option<Arc<Pixels>> {
        self.kept.as_ref()?.get(&key.0).inspect(|_| self.meters.found())
    }

    /// Keeps the pixels of the file with this digest, which was decoded for them, if there is room.
    pub fn put(&self, key: &ImageKey, pixels: &Arc<Pixels>) {
        if let Some(cache) = &self.kept {
            cache.insert(key.0, Arc::clone(pixels));
        }
        self.meters.decoded(self.kept.as_ref().map_or(0, Cache::weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(shade: u8) -> Arc<Pixels> {
        Arc::new(Pixels::new(10, 10, vec![shade; 300]).unwrap())
    }

    #[test]
    fn what_was_put_is_there_and_no_more_is_kept_than_fits() {
        let cache = PixelCache::new(10 * 428, 300);
        cache.put(&ImageKey([7; 32]), &pixels(7));
        assert_eq!(cache.get(&ImageKey([7; 32])).unwrap().data(), pixels(7).data());
        for number in 0..=255 {
            cache.put(&ImageKey([number; 32]), &pixels(number));
        }
        let kept: Vec<_> = (0..=255).filter_map(|number| cache.get(&ImageKey([number; 32]))).collect();
        assert!((1..=10).contains(&kept.len()), "{}", kept.len());
    }

    #[test]
    fn a_cache_without_room_keeps_nothing() {
        let cache = PixelCache::new(0, 300);
        cache.put(&ImageKey([7; 32]), &pixels(7));
        assert!(cache.get(&ImageKey([7; 32])).is_none());
    }
}
