//! Which images are here, who waits on each, and which engines acquire its features.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;

use super::{co_batched::CoBatchedJobs, engine_set::EngineSet};
use crate::{
    ids::{ImageSlot, JobIndex},
    job::{ImageDigest, Priority},
};

#[derive(Debug)]
struct Image<I> {
    digest: ImageDigest,
    /// Here while a job needs it.
    payload: Option<Arc<I>>,
    bytes: usize,
    /// Flights that need it, waiting or running.
    references: u32,
    /// Those of them that are in the fair queue, in the order in which they may ride along.
    waiting: CoBatchedJobs,
    /// EngineSet that said that they acquire its features.
    cached: EngineSet,
    /// EngineSet that run a batch with it.
    encoding: EngineSet,
}

impl<I> Image<I> {
    /// EngineSet that have its features, or will in a moment.
    const fn warm(&self) -> EngineSet {
        self.cached.with(self.encoding)
    }
}

#[derive(Debug)]
pub(crate) struct ImageIndex<I> {
    slots: HashMap<ImageDigest, ImageSlot>,
    images: Slab<Image<I>>,
    /// For each engine, the images it has features of that somebody waits on.
    ready: Vec<BTreeSet<ImageSlot>>,
    /// Payloads' bytes, each image once.
    bytes: usize,
    /// Images that jobs wait on and no engine has.
    cold_waiting: usize,
    /// All engines, where they keep features in one position.
    sharing: Option<EngineSet>,
}

impl<I> ImageIndex<I> {
    /// An index for so many engines, which `share` what they keep or do not.
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

    /// Bytes that a payload would add: none when the image is here already.
    pub(crate) fn added_bytes(&self, digest: &ImageDigest, bytes: usize) -> usize {
        let held =
            self.find(digest).and_then(|slot| self.get(slot)).is_some_and(|image| image.references > 0);
        if held { 0 } else { bytes }
    }

    /// Counts a job as in need of the image; the payload is kept if it is the first.
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

    /// A job no longer needs the image. Gives back the payload when it was the last.
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

    /// Changes an image and keeps the derived tables (`ready`, `cold_waiting`) true.
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

    /// A job enters the queue.
    pub(crate) fn start_waiting(&mut self, slot: ImageSlot, class: Priority, sequence: u64, job: JobIndex) {
        self.change(slot, |image| image.waiting.insert((class, sequence, job)));
    }

    /// A job leaves the queue.
    pub(crate) fn stop_waiting(&mut self, slot: ImageSlot, class: Priority, sequence: u64, job: JobIndex) {
        self.change(slot, |image| image.waiting.remove(&(class, sequence, job)));
    }

    /// An engine starts a batch with an image.
    pub(crate) fn encoding_started(&mut self, engine: usize, slot: ImageSlot) {
        self.change(slot, |image| image.encoding = image.encoding.with(EngineSet::only(engine)));
    }

    /// That batch has ended.
    pub(crate) fn encoding_ended(&mut self, engine: usize, slot: ImageSlot) {
        self.change(slot, |image| image.encoding = image.encoding.without(EngineSet::only(engine)));
        self.forget_if_unused(slot);
    }

    /// An engine says that it holds the features of an image.
    pub(crate) fn cached(&mut self, engine: usize, digest: ImageDigest) {
        let (slot, engines) = (self.slot(digest), self.sharing_engines(engine));
        self.change(slot, |image| image.cached = image.cached.with(engines));
    }

    /// An engine says that it no longer holds the features of an image.
    pub(crate) fn evicted(&mut self, engine: usize, digest: ImageDigest) {
        if let Some(slot) = self.find(&digest) {
            let engines = self.sharing_engines(engine);
            self.change(slot, |image| image.cached = image.cached.without(engines));
            self.forget_if_unused(slot);
        }
    }

    /// EngineSet that have what this one says that it holds.
    fn sharing_engines(&self, engine: usize) -> EngineSet {
        self.sharing.unwrap_or(EngineSet::only(engine))
    }

    /// An engine lost all it held by itself.
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

    /// EngineSet that have the features of an image, or will in a moment.
    pub(crate) fn warm(&self, slot: ImageSlot) -> EngineSet {
        self.get(slot).map(Image::warm).unwrap_or_default()
    }

    /// Whether an engine holds the features of an image now.
    pub(crate) fn is_cached(&self, slot: ImageSlot, engine: usize) -> bool {
        self.get(slot).is_some_and(|image| image.cached.contains(engine))
    }

    /// Who waits on an image, the most urgent class and the oldest first.
    pub(crate) fn waiting(&self, slot: ImageSlot) -> impl Iterator<Item = JobIndex> {
        self.get(slot).into_iter().flat_map(|image| image.waiting.iter())
    }

    /// Images that an engine has features of and somebody waits on.
    pub(crate) fn ready(&self, engine: usize) -> impl Iterator<Item = ImageSlot> {
        self.ready.get(engine).into_iter().flatten().copied()
    }

    /// Bytes of all payloads, each image once.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Images that somebody waits on and no engine has features of.
    pub(crate) const fn cold_waiting(&self) -> usize {
        self.cold_waiting
    }

    /// Images known, with a payload or only as features of an engine.
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
    fn an_image_is_held_and_counted_once_however_many_need_it() {
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
    fn an_engine_is_ready_for_images_that_are_both_warm_there_and_waited_on() {
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
    fn what_one_of_several_engines_that_share_keeps_all_have_until_one_of_them_lets_it_go() {
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
    fn an_image_that_nobody_needs_and_no_engine_has_is_forgotten() {
        let mut index = ImageIndex::new(1, false);
        let slot = index.acquire(digest(1), Arc::new(()), 1);
        index.cached(0, digest(1));
        index.release(slot);
        assert_eq!(index.len(), 1);
        index.evicted(0, digest(1));
        assert_eq!(index.len(), 0);
    }
}
