//! Known images, the jobs that wait for each, and the engines that have its features.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;

use super::{co_batched::CoBatchedJobs, engine_set::EngineSet};
use crate::{
    ids::{ImageSlot, JobIndex},
    job::{ImageDigest, Priority},
};

/// A known image.
#[derive(Debug)]
struct Image<I> {
    digest: ImageDigest,
    /// Available while a job needs it.
    payload: Option<Arc<I>>,
    bytes: usize,
    /// Waiting and running jobs that need it.
    references: u32,
    /// Its jobs in the fair queue, in the order in which they are co-batched.
    waiting: CoBatchedJobs,
    /// Engines that reported its features as cached.
    cached: EngineSet,
    /// Engines that run a batch with it.
    encoding: EngineSet,
}

impl<I> Image<I> {
    /// Returns the engines that have its features, or will have them soon.
    const fn warm(&self) -> EngineSet {
        self.cached.with(self.encoding)
    }
}

/// All known images.
#[derive(Debug)]
pub(crate) struct ImageIndex<I> {
    slots: HashMap<ImageDigest, ImageSlot>,
    images: Slab<Image<I>>,
    /// For each engine, the images that it has features of and that queued jobs need.
    ready: Vec<BTreeSet<ImageSlot>>,
    /// Bytes of all payloads, each image once.
    bytes: usize,
    /// Images of queued jobs that no engine has.
    cold_waiting: usize,
    /// All engines, if they share one feature cache.
    sharing: Option<EngineSet>,
}

impl<I> ImageIndex<I> {
    /// Creates an index. With `share`, all engines use one feature cache.
    pub(crate) fn new(engines: usize, share: bool) -> Self {
        Self {
            slots: HashMap::new(),
            images: Slab::new(),
            ready: vec![BTreeSet::new(); engines],
            bytes: 0,
            cold_waiting: 0,
            sharing: share.then(|| EngineSet::first(engines)),
        }
    }

    fn get(&self, slot: ImageSlot) -> Option<&Image<I>> {
        self.images.get(slot.0 as usize)
    }

    fn slot(&mut self, digest: ImageDigest) -> ImageSlot {
        *self.slots.entry(digest).or_insert_with(|| {
            let image = Image {
                digest,
                payload: None,
                bytes: 0,
                references: 0,
                waiting: CoBatchedJobs::default(),
                cached: EngineSet::default(),
                encoding: EngineSet::default(),
            };
            ImageSlot(self.images.insert(image) as u32)
        })
    }

    pub(crate) fn find(&self, digest: &ImageDigest) -> Option<ImageSlot> {
        self.slots.get(digest).copied()
    }

    /// Returns the bytes that a payload would add: none if the image is already stored.
    pub(crate) fn added_bytes(&self, digest: &ImageDigest, bytes: usize) -> usize {
        let held =
            self.find(digest).and_then(|slot| self.get(slot)).is_some_and(|image| image.references > 0);
        if held { 0 } else { bytes }
    }

    /// Adds a reference to the image. Stores the payload with the first one.
    pub(crate) fn acquire(&mut self, digest: ImageDigest, payload: Arc<I>, bytes: usize) -> ImageSlot {
        let slot = self.slot(digest);
        if let Some(image) = self.images.get_mut(slot.0 as usize) {
            image.references += 1;
            if image.payload.is_none() {
                image.payload = Some(payload);
                image.bytes = bytes;
                self.bytes += bytes;
            }
        }
        slot
    }

    /// Removes a reference to the image. Returns the payload with the last one.
    pub(crate) fn release(&mut self, slot: ImageSlot) -> Option<Arc<I>> {
        let image = self.images.get_mut(slot.0 as usize)?;
        image.references = image.references.saturating_sub(1);
        if image.references > 0 {
            return None;
        }
        let payload = image.payload.take();
        self.bytes -= std::mem::take(&mut image.bytes);
        self.forget_if_unused(slot);
        payload
    }

    fn forget_if_unused(&mut self, slot: ImageSlot) {
        if let Some(image) = self.get(slot)
            && image.references == 0
            && image.warm().is_empty()
        {
            let image = self.images.remove(slot.0 as usize);
            self.slots.remove(&image.digest);
        }
    }

    /// Changes an image and updates the derived tables `ready` and `cold_waiting`.
    fn change(&mut self, slot: ImageSlot, change: impl FnOnce(&mut Image<I>)) {
        let Some(image) = self.images.get_mut(slot.0 as usize) else { return };
        let before = if image.waiting.is_empty() { None } else { Some(image.warm()) };
        change(image);
        let after = if image.waiting.is_empty() { None } else { Some(image.warm()) };
        if before == after {
            return;
        }
        let is_cold = |state: Option<EngineSet>| usize::from(state.is_some_and(EngineSet::is_empty));
        self.cold_waiting = self.cold_waiting + is_cold(after) - is_cold(before);
        for engine in before.unwrap_or_default().iter() {
            if let Some(ready) = self.ready.get_mut(engine) {
                ready.remove(&slot);
            }
        }
        for engine in after.unwrap_or_default().iter() {
            if let Some(ready) = self.ready.get_mut(engine) {
                ready.insert(slot);
            }
        }
    }

    /// Records that a job has entered the queue.
    pub(crate) fn start_waiting(&mut self, slot: ImageSlot, class: Priority, sequence: u64, job: JobIndex) {
        self.change(slot, |image| image.waiting.insert((class, sequence, job)));
    }

    /// Records that a job has left the queue.
    pub(crate) fn stop_waiting(&mut self, slot: ImageSlot, class: Priority, sequence: u64, job: JobIndex) {
        self.change(slot, |image| image.waiting.remove(&(class, sequence, job)));
    }

    /// Records that an engine has started a batch with an image.
    pub(crate) fn encoding_started(&mut self, engine: usize, slot: ImageSlot) {
        self.change(slot, |image| image.encoding = image.encoding.with(EngineSet::only(engine)));
    }

    /// Records that this batch has ended.
    pub(crate) fn encoding_ended(&mut self, engine: usize, slot: ImageSlot) {
        self.change(slot, |image| image.encoding = image.encoding.without(EngineSet::only(engine)));
        self.forget_if_unused(slot);
    }

    /// Records that an engine has cached the features of an image.
    pub(crate) fn cached(&mut self, engine: usize, digest: ImageDigest) {
        let (slot, engines) = (self.slot(digest), self.sharing_engines(engine));
        self.change(slot, |image| image.cached = image.cached.with(engines));
    }

    /// Records that an engine has evicted the features of an image.
    pub(crate) fn evicted(&mut self, engine: usize, digest: ImageDigest) {
        if let Some(slot) = self.find(&digest) {
            let engines = self.sharing_engines(engine);
            self.change(slot, |image| image.cached = image.cached.without(engines));
            self.forget_if_unused(slot);
        }
    }

    /// Returns the engines that share this engine's cache.
    fn sharing_engines(&self, engine: usize) -> EngineSet {
        self.sharing.unwrap_or(EngineSet::only(engine))
    }

    /// Records that an engine has lost its cache. Has no effect on a shared cache.
    pub(crate) fn all_evicted(&mut self, engine: usize) {
        if self.sharing.is_some() {
            return;
        }
        let lost: Vec<_> = self
            .images
            .iter()
            .filter(|(_, image)| image.cached.contains(engine))
            .map(|(slot, _)| ImageSlot(slot as u32))
            .collect();
        for slot in lost {
            self.change(slot, |image| image.cached = image.cached.without(EngineSet::only(engine)));
            self.forget_if_unused(slot);
        }
    }

    pub(crate) fn digest(&self, slot: ImageSlot) -> Option<ImageDigest> {
        self.get(slot).map(|image| image.digest)
    }

    pub(crate) fn payload(&self, slot: ImageSlot) -> Option<Arc<I>> {
        self.get(slot).and_then(|image| image.payload.clone())
    }

    /// Returns the engines that have the features of an image, or will have them soon.
    pub(crate) fn warm(&self, slot: ImageSlot) -> EngineSet {
        self.get(slot).map(Image::warm).unwrap_or_default()
    }

    /// Returns whether an engine has the features of an image now.
    pub(crate) fn is_cached(&self, slot: ImageSlot, engine: usize) -> bool {
        self.get(slot).is_some_and(|image| image.cached.contains(engine))
    }

    /// Returns the queued jobs of an image, by class and age.
    pub(crate) fn waiting(&self, slot: ImageSlot) -> impl Iterator<Item = JobIndex> {
        self.get(slot).into_iter().flat_map(|image| image.waiting.iter())
    }

    /// Returns the images that an engine has features of and that queued jobs need.
    pub(crate) fn ready(&self, engine: usize) -> impl Iterator<Item = ImageSlot> {
        self.ready.get(engine).into_iter().flatten().copied()
    }

    /// Returns the bytes of all payloads, each image once.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of images of queued jobs that no engine has.
    pub(crate) const fn cold_waiting(&self) -> usize {
        self.cold_waiting
    }

    /// Returns the number of known images, with a payload or only with cached features.
    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> ImageDigest {
        [n; 32]
    }

    #[test]
    fn image_of_several_jobs_is_stored_and_counted_once() {
        let mut index = ImageIndex::new(1, false);
        let slot = index.acquire(digest(1), Arc::new("first copy"), 100);
        assert_eq!(index.added_bytes(&digest(1), 100), 0);
        assert_eq!(index.acquire(digest(1), Arc::new("second copy"), 100), slot);
        assert_eq!((index.bytes(), index.payload(slot).as_deref()), (100, Some(&"first copy")));
        assert!(index.release(slot).is_none());
        assert!(index.release(slot).is_some());
        assert_eq!((index.bytes(), index.len()), (0, 0));
    }

    #[test]
    fn engine_is_ready_for_warm_images_of_queued_jobs() {
        let mut index = ImageIndex::new(2, false);
        let slot = index.acquire(digest(1), Arc::new(()), 1);
        index.start_waiting(slot, Priority::Normal, 1, JobIndex(1));
        assert_eq!((index.cold_waiting(), index.ready(1).count()), (1, 0));
        index.cached(1, digest(1));
        assert_eq!((index.cold_waiting(), index.ready(1).count(), index.ready(0).count()), (0, 1, 0));
        index.stop_waiting(slot, Priority::Normal, 1, JobIndex(1));
        assert_eq!(index.ready(1).count(), 0);
        index.start_waiting(slot, Priority::Normal, 2, JobIndex(2));
        assert_eq!(index.ready(1).count(), 1);
        index.all_evicted(1);
        assert_eq!((index.cold_waiting(), index.ready(1).count()), (1, 0));
    }

    #[test]
    fn shared_cache_makes_image_cached_on_all_engines() {
        let mut index = ImageIndex::new(2, true);
        let slot = index.acquire(digest(1), Arc::new(()), 1);
        index.start_waiting(slot, Priority::Normal, 1, JobIndex(1));
        index.cached(1, digest(1));
        assert!(index.is_cached(slot, 0) && index.is_cached(slot, 1));
        assert_eq!((index.cold_waiting(), index.ready(0).count()), (0, 1));
        index.all_evicted(1);
        assert!(index.is_cached(slot, 0), "an engine that is lost takes nothing along");
        index.evicted(0, digest(1));
        assert_eq!((index.cold_waiting(), index.ready(0).count(), index.ready(1).count()), (1, 0, 0));
    }

    #[test]
    fn image_without_jobs_and_engines_is_removed() {
        let mut index = ImageIndex::new(1, false);
        let slot = index.acquire(digest(1), Arc::new(()), 1);
        index.cached(0, digest(1));
        index.release(slot);
        assert_eq!(index.len(), 1);
        index.evicted(0, digest(1));
        assert_eq!(index.len(), 0);
    }
}
