//! What engines with one memory, the CPU's, keep of images: their features, and the keys and values that questions read of
//! them. One engine makes them, all read them.
//!
//! Numbers are there for others only when they are complete, and are not changed while anyone reads them: a batch holds on to
//! what it found and needs no lock to read it, even when the image has given way to another meanwhile.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use tch::{Device, Kind, TchError};

use crate::{
    batch::{layout::Source, rows::RowSink},
    cache::{cross_attention::KeyValueShape, features::ImageKey},
    checkpoint::{Checkpoint, config::Architecture},
    cpu::text_encoder::key_value_shape,
    device::selection::Dtype,
    model::ModelOptions,
};

/// Numbers that are written once and then read by anyone.
pub(crate) type Numbers = Arc<[f32]>;

/// A memory of images for all models of one checkpoint that are loaded in the same way.
#[derive(Debug, Clone)]
pub struct SharedImages(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Numbers of one layer's keys and values of one image.
    layer_numbers: usize,
    /// Of all layers.
    image_numbers: usize,
    /// Tokens of an image and numbers of a token, in its features.
    shape: [i64; 2],
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    features: LruCache<ImageKey, Numbers>,
    key_values: LruCache<ImageKey, Numbers>,
    /// Images of which keys and values may be kept or under way.
    most_key_values: usize,
    /// Of so many they are under way.
    lent: usize,
    /// Memory of keys and values that are kept no more.
    spare: Vec<Numbers>,
}

impl SharedImages {
    /// The memory for models of `checkpoint` with these choices; none where each engine has a memory of its own: on a device, and
    /// for models that LibTorch's kernels compute.
    pub fn for_models(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: Dtype,
        options: &ModelOptions,
    ) -> Option<Self> {
        let config = checkpoint.config();
        options.cpu_kernels.are_own_for_texts(config.vision.is_small(), device, dtype).then(|| {
            let shape = match config.architecture() {
                Architecture::QuestionAnswering => Some(key_value_shape(config)),
                Architecture::Captioning | Architecture::Retrieval => None,
            };
            let features = [config.vision.tokens(), config.vision.hidden_size];
            Self::new(options.feature_slots(config, dtype), features, shape, options.key_value_cache_bytes)
        })
    }

    /// A memory for the `features` `[tokens, hidden]` of so many images, and for as many images' keys and values as fit the bytes.
    fn new(
        images: NonZeroUsize,
        features: [i64; 2],
        key_values: Option<KeyValueShape>,
        key_value_bytes: usize,
    ) -> Self {
        let of_image = key_values.map_or(0, |shape| shape.bytes(Kind::Float));
        Self(Arc::new(Shared {
            layer_numbers: key_values.map_or(0, |shape| shape.layer_numbers()),
            image_numbers: key_values.map_or(0, |shape| shape.numbers()),
            shape: features,
            kept: Mutex::new(Kept {
                features: LruCache::new(images),
                key_values: LruCache::unbounded(),
                most_key_values: key_value_bytes.checked_div(of_image).unwrap_or(0),
                lent: 0,
                spare: Vec::new(),
            }),
        }))
    }

    /// Tokens of an image and numbers of a token, in its features.
    pub(crate) fn shape(&self) -> [i64; 2] {
        self.0.shape
    }

    /// Images whose features are kept now.
    pub(crate) fn len(&self) -> usize {
        self.0.kept().features.len()
    }

    /// The features of those of the images that are kept.
    pub(crate) fn find<'a>(&self, keys: impl IntoIterator<Item = &'a ImageKey>) -> Vec<Option<Numbers>> {
        let mut kept = self.0.kept();
        keys.into_iter().map(|key| kept.features.get(key).cloned()).collect()
    }

    /// Keeps the features of images. `rows` hears of each image that is kept from now on, and of each that gives way, in the
    /// order in which all engines' images come and go.
    pub(crate) fn keep(&self, made: impl IntoIterator<Item = (ImageKey, Numbers)>, rows: &mut dyn RowSink) {
        let mut kept = self.0.kept();
        for (key, features) in made {
            // Another engine may have been quicker.
            if kept.features.contains(&key) {
                continue;
            }
            let bytes = std::mem::size_of_val(&*features);
            if let Some((evicted, _)) = kept.features.push(key, features) {
                kept.forget(&evicted);
                rows.image_evicted(&evicted);
            }
            rows.image_cached(&key, bytes);
        }
    }

    /// What a batch has of images' keys and values: nothing yet.
    pub(crate) fn key_values(&self) -> BatchKeyValues {
        BatchKeyValues { home: Arc::clone(&self.0), images: Vec::new() }
    }
}

impl Shared {
    /// Complete whenever the lock is free, even if its last holder panicked.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Memory for an image's keys and values that nobody else sees, if need be that of one of the `evictable` images.
    fn lend(&mut self, shared: &Shared, evictable: &mut usize) -> Option<Numbers> {
        let spare = if self.key_values.len() + self.lent < self.most_key_values {
            self.spare.pop()
        } else {
            *evictable = evictable.checked_sub(1)?;
            self.key_values.pop_lru().and_then(|(_, numbers)| unshared(numbers))
        };
        self.lent += 1;
        Some(spare.unwrap_or_else(|| std::iter::repeat_n(0.0, shared.image_numbers).collect()))
    }

    /// Gives up the keys and values of an image.
    fn forget(&mut self, key: &ImageKey) {
        if let Some(numbers) = self.key_values.pop(key) {
            self.spare.extend(unshared(numbers));
        }
    }
}

/// Numbers that nobody else holds.
fn unshared(mut numbers: Numbers) -> Option<Numbers> {
    Arc::get_mut(&mut numbers).is_some().then_some(numbers)
}

/// Keys and values that one batch reads, and those that it makes for later ones.
#[derive(Debug)]
pub(crate) struct BatchKeyValues {
    home: Arc<Shared>,
    images: Vec<KeyValues>,
}

#[derive(Debug)]
enum KeyValues {
    Read(Numbers),
    /// Nobody else holds them yet.
    Write(ImageKey, Numbers),
}

impl BatchKeyValues {
    /// Says for each of the distinct images of the batch where its keys and values come from; slots are places here. They are
    /// worth keeping from the second batch on that asks about an image: each makes them in any case. No image of the batch takes
    /// another's place.
    pub(crate) fn place(&mut self, images: impl IntoIterator<Item = ImageKey>) -> Vec<Source> {
        let kept = &mut *self.home.kept();
        // First all that are here become the most recent, so that making room below cannot push one out.
        let found: Vec<_> = images.into_iter().map(|key| (key, kept.key_values.get(&key).cloned())).collect();
        let mut evictable = kept.key_values.len() - found.iter().filter(|(_, found)| found.is_some()).count();
        let mut place = |(key, found): (ImageKey, Option<Numbers>)| {
            let slot = self.images.len() as i64;
            if let Some(numbers) = found {
                self.images.push(KeyValues::Read(numbers));
                return Source::Kept(slot);
            }
            let was_seen = kept.features.contains(&key);
            match was_seen.then(|| kept.lend(&self.home, &mut evictable)).flatten() {
                Some(numbers) => {
                    self.images.push(KeyValues::Write(key, numbers));
                    Source::Keep(slot)
                }
                None => Source::Features,
            }
        };
        found.into_iter().map(&mut place).collect()
    }

    /// Those of a layer that were kept before.
    pub(crate) fn read(&self, layer: usize, slot: i64) -> Result<&[f32], TchError> {
        let numbers = match self.images.get(slot as usize) {
            Some(KeyValues::Read(numbers)) => numbers.get(self.range(layer)),
            _ => None,
        };
        numbers.ok_or_else(|| missing(layer, slot))
    }

    /// Those of a layer that this batch makes.
    pub(crate) fn write(&mut self, layer: usize, slot: i64) -> Result<&mut [f32], TchError> {
        let range = self.range(layer);
        let numbers = match self.images.get_mut(slot as usize) {
            Some(KeyValues::Write(_, numbers)) => {
                Arc::get_mut(numbers).and_then(|numbers| numbers.get_mut(range))
            }
            _ => None,
        };
        numbers.ok_or_else(|| missing(layer, slot))
    }

    fn range(&self, layer: usize) -> std::ops::Range<usize> {
        layer * self.home.layer_numbers..(layer + 1) * self.home.layer_numbers
    }

    /// All layers have been through: what was made is for others, too. What a batch that fails before has made is not.
    pub(crate) fn settle(&mut self) {
        let mut kept = self.home.kept();
        for image in &mut self.images {
            let KeyValues::Write(key, numbers) = image else { continue };
            // Its features may have given way meanwhile, or another engine may have been quicker.
            if kept.features.contains(key) && !kept.key_values.contains(key) {
                kept.lent -= 1;
                kept.key_values.put(*key, Arc::clone(numbers));
                *image = KeyValues::Read(Arc::clone(numbers));
            }
        }
    }
}

impl Drop for BatchKeyValues {
    fn drop(&mut self) {
        let mut kept = self.home.kept();
        for image in self.images.drain(..) {
            if let KeyValues::Write(_, numbers) = image {
                kept.lent -= 1;
                kept.spare.push(numbers);
            }
        }
    }
}

fn missing(layer: usize, slot: i64) -> TchError {
    TchError::Shape(format!("no slot {slot} of layer {layer}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::rows::{RowAnswer, RowError};

    const SHAPE: KeyValueShape = KeyValueShape { layers: 2, tokens: 3, width: 4 };

    /// What an engine says about images.
    #[derive(Default, Debug, PartialEq)]
    struct Heard {
        cached: Vec<u8>,
        evicted: Vec<u8>,
    }

    impl RowSink for Heard {
        fn finish(&mut self, _: usize, _: Result<RowAnswer, RowError>) {}

        fn is_cancelled(&self, _: usize) -> bool {
            false
        }

        fn image_cached(&mut self, key: &ImageKey, bytes: usize) {
            assert_eq!(bytes, 5 * 4);
            self.cached.push(key[0]);
        }

        fn image_evicted(&mut self, key: &ImageKey) {
            self.evicted.push(key[0]);
        }
    }

    fn memory(features: usize, key_values: usize) -> SharedImages {
        let bytes = key_values * SHAPE.bytes(Kind::Float);
        SharedImages::new(NonZeroUsize::new(features).unwrap(), [1, 5], Some(SHAPE), bytes)
    }

    fn key(number: u8) -> ImageKey {
        [number; 32]
    }

    /// Makes the features of those that are not kept, which spell their number.
    fn encode(memory: &SharedImages, numbers: &[u8]) -> Heard {
        let keys: Vec<ImageKey> = numbers.iter().map(|&number| key(number)).collect();
        let found = memory.find(&keys);
        let missing = keys.iter().zip(found).filter(|(_, found)| found.is_none());
        let mut heard = Heard::default();
        memory.keep(missing.map(|(&key, _)| (key, [f32::from(key[0]); 5].into())), &mut heard);
        heard
    }

    fn write(batch: &mut BatchKeyValues, source: Source, number: u8) {
        if let Source::Keep(slot) = source {
            for layer in 0..2 {
                batch.write(layer, slot).unwrap().fill(f32::from(number) * 10.0 + layer as f32);
            }
        }
    }

    fn begin(memory: &SharedImages, numbers: &[u8]) -> (Vec<Source>, BatchKeyValues) {
        let mut batch = memory.key_values();
        (batch.place(numbers.iter().map(|&number| key(number))), batch)
    }

    /// A batch about the images from its beginning to its end.
    fn ask(memory: &SharedImages, numbers: &[u8]) -> Vec<Source> {
        let (sources, mut batch) = begin(memory, numbers);
        encode(memory, numbers);
        for (&number, &source) in numbers.iter().zip(&sources) {
            write(&mut batch, source, number);
        }
        batch.settle();
        for (&number, &source) in numbers.iter().zip(&sources) {
            if let Source::Kept(slot) = source {
                for layer in 0..2 {
                    let expected = [f32::from(number) * 10.0 + layer as f32; 12];
                    assert_eq!(batch.read(layer, slot).unwrap(), expected);
                }
            }
        }
        sources
    }

    fn kinds(sources: &[Source]) -> String {
        let letter = |source: &Source| match source {
            Source::Features => 'f',
            Source::Keep(_) => 'K',
            Source::Kept(_) => 'k',
        };
        sources.iter().map(letter).collect()
    }

    #[test]
    fn features_are_found_by_every_engine_and_the_least_recently_used_give_way() {
        let memory = memory(2, 0);
        assert_eq!(encode(&memory, &[1, 2]), Heard { cached: vec![1, 2], evicted: vec![] });
        let other_engine = memory.clone();
        assert_eq!(other_engine.find(&[key(1)])[0].as_deref(), Some(&[1.0; 5][..]));
        assert_eq!(encode(&other_engine, &[3]), Heard { cached: vec![3], evicted: vec![2] });
        assert_eq!(memory.len(), 2);
        assert!(memory.find(&[key(2)])[0].is_none());
    }

    #[test]
    fn of_two_engines_that_encode_the_same_image_the_first_keeps_it_and_only_that_is_told() {
        let memory = memory(2, 0);
        let mut heard = Heard::default();
        for _ in 0..2 {
            memory.keep([(key(1), [1.0; 5].into())], &mut heard);
        }
        assert_eq!(heard, Heard { cached: vec![1], evicted: vec![] });
    }

    #[test]
    fn the_second_batch_keeps_keys_and_values_and_the_third_reads_them() {
        let memory = memory(4, 2);
        assert_eq!(kinds(&ask(&memory, &[1])), "f");
        assert_eq!(kinds(&ask(&memory, &[1, 2])), "Kf");
        assert_eq!(kinds(&ask(&memory, &[1, 2])), "kK");
    }

    #[test]
    fn no_image_of_a_batch_takes_anothers_place_and_the_least_recently_used_gives_way() {
        let memory = memory(4, 2);
        encode(&memory, &[1, 2, 3, 4]);
        ask(&memory, &[1]);
        assert_eq!(kinds(&ask(&memory, &[2, 3, 1])), "Kfk");
        assert_eq!(kinds(&ask(&memory, &[3])), "K");
        assert_eq!(kinds(&ask(&memory, &[2])), "k", "1 was found before it was made");
        assert_eq!(kinds(&ask(&memory, &[1])), "K");
    }

    #[test]
    fn what_a_failed_batch_has_made_is_not_read_and_its_place_is_free_again() {
        let memory = memory(4, 1);
        encode(&memory, &[1, 2]);
        let (sources, failed) = begin(&memory, &[1]);
        assert_eq!(kinds(&sources), "K");
        assert_eq!(kinds(&ask(&memory, &[2])), "f", "the only place is taken");
        drop(failed);
        assert_eq!(kinds(&ask(&memory, &[1])), "K");
        assert_eq!(kinds(&ask(&memory, &[1])), "k");
    }

    #[test]
    fn of_two_engines_that_make_the_same_keys_and_values_both_read_their_own_and_one_keeps_them() {
        let memory = memory(4, 2);
        encode(&memory, &[1]);
        let [mut first, mut second] = [(), ()].map(|()| begin(&memory, &[1]));
        for (sources, batch) in [&mut first, &mut second] {
            write(batch, sources[0], 1);
            batch.settle();
        }
        drop((first, second));
        let kept = memory.0.kept();
        assert_eq!((kept.key_values.len(), kept.lent, kept.spare.len()), (1, 0, 1));
    }

    #[test]
    fn what_is_read_stays_as_it_is_though_its_image_gives_way() {
        let memory = memory(2, 1);
        encode(&memory, &[1, 2]);
        ask(&memory, &[1]);
        let (sources, reading) = begin(&memory, &[1]);
        assert_eq!(kinds(&sources), "k");
        assert_eq!(kinds(&ask(&memory, &[2])), "K");
        assert_eq!(reading.read(1, 0).unwrap(), [11.0; 12]);
        assert!(reading.read(2, 0).is_err() && reading.read(0, 1).is_err());
    }

    #[test]
    fn keys_and_values_go_with_their_images_features() {
        let memory = memory(1, 1);
        ask(&memory, &[1]);
        assert_eq!(kinds(&ask(&memory, &[1])), "K");
        encode(&memory, &[2]);
        assert_eq!(memory.0.kept().key_values.len(), 0);
        assert_eq!(kinds(&ask(&memory, &[1])), "f");
    }

    proptest! {
        #[test]
        fn whatever_engines_do_at_once_bounds_hold_and_numbers_are_their_images(
            batches in prop::collection::vec((prop::collection::hash_set(0u8..9, 1..5), any::<bool>(), any::<bool>()), 1..40),
        ) {
            let memory = memory(5, 3);
            let mut running: Option<(Vec<u8>, Vec<Source>, BatchKeyValues)> = None;
            for (numbers, overlaps, fails) in batches {
                let numbers: Vec<u8> = numbers.into_iter().collect();
                if overlaps && running.is_none() {
                    let (sources, batch) = begin(&memory, &numbers);
                    running = Some((numbers, sources, batch));
                    continue;
                }
                // Checks what it reads.
                ask(&memory, &numbers);
                if let Some((numbers, sources, mut batch)) = running.take() {
                    for (&number, &source) in numbers.iter().zip(&sources) {
                        write(&mut batch, source, number);
                        if let Source::Kept(slot) = source {
                            prop_assert_eq!(batch.read(1, slot).unwrap(), [f32::from(number) * 10.0 + 1.0; 12]);
                        }
                    }
                    if !fails {
                        batch.settle();
                    }
                }
                let kept = memory.0.kept();
                prop_assert!(kept.features.len() <= 5);
                prop_assert!(kept.key_values.len() + kept.lent <= 3);
                prop_assert!(running.is_some() || kept.lent == 0);
                prop_assert!(kept.key_values.len() + kept.lent + kept.spare.len() <= 3);
            }
        }
    }
}
