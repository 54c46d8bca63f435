//! The images of a batch, as the text encoder's cross-attention reads them.

use std::{borrow::Cow, ops::Range};

use cpu_kernels::Heads;
use tch::TchError;

use crate::{
    batch::layout::{BatchLayout, KvSource},
    cache::{batch_features::BatchFeatures, batch_key_values::BatchKeyValues, feature_buffer::FeatureBuffer},
    cpu::{buffer_pool::Buffer, load::size, text_layer::CpuTextLayer},
    parallel::{
        ParallelKernels,
        image_attention::{AttendedImage, PackedFeatures},
    },
};

/// The images of a batch, in the order of its layout.
#[derive(Debug)]
pub(crate) struct CpuImageStates<'a> {
    features: Vec<&'a FeatureBuffer>,
    /// `None` if no key or value is cached.
    cache: Option<&'a mut BatchKeyValues>,
    /// Tokens of an image.
    tokens: usize,
}

/// An image with its queries.
#[derive(Debug)]
pub(super) struct QueriedImage<'a> {
    source: Source<'a>,
    /// The tokens of the image's texts.
    pub(super) text_tokens: Range<usize>,
}

/// What an image's queries read.
#[derive(Debug)]
enum Source<'a> {
    /// Keys and values in this slot of the cache.
    Cached(i64),
    /// Keys and values that the batch computes from features `[tokens, hidden]` to this slot.
    Stored(i64, Cow<'a, [f32]>),
    /// Keys and values from features that only this batch reads.
    Temporary(Cow<'a, [f32]>),
    /// Features, with absorbed projections.
    Features(PackedFeatures),
}

impl<'a> CpuImageStates<'a> {
    /// Creates the states of the images at `positions` of a batch. Keys and values may be in
    /// `cache`.
    ///
    /// # Errors
    /// [`TchError`] if an image has no features in main memory.
    pub(crate) fn new(
        features: &'a BatchFeatures<'a>,
        positions: impl Iterator<Item = usize>,
        cache: Option<&'a mut BatchKeyValues>,
    ) -> Result<Self, TchError> {
        let tokens = features.tokens_in_buffers();
        let features = positions.map(|position| features.buffer(position));
        Ok(Self { features: features.collect::<Result<_, _>>()?, cache, tokens })
    }

    /// Returns the number of tokens of an image.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Chooses what the queries of each image read. `token_ranges` are the tokens of each row of
    /// `layout`.
    ///
    /// Images with fewer than `threshold` queries and no cached keys and values are read by
    /// absorbed projections.
    pub(super) fn queried(
        &self,
        layout: &BatchLayout,
        token_ranges: &[Range<usize>],
        threshold: usize,
        kernels: &ParallelKernels,
    ) -> Vec<QueriedImage<'a>> {
        let images = images_with_rows(layout).map(|(source, rows)| (source, span(token_ranges, rows)));
        let images: Vec<(KvSource, Range<usize>)> = images.collect();
        let mut queried: Vec<Option<QueriedImage<'a>>> = images.iter().map(|_| None).collect();
        let tasks = queried.iter_mut().zip(images.into_iter().zip(&self.features));
        kernels.workers.each(tasks, |(queried, ((source, text_tokens), features))| {
            let source = match source {
                KvSource::Cached(slot) => Source::Cached(slot),
                KvSource::ComputeAndStore(slot) => Source::Stored(slot, features.numbers()),
                KvSource::Compute if text_tokens.len() < threshold => {
                    let numbers = features.numbers();
                    Source::Features(kernels.pack_features(&numbers, numbers.len() / self.tokens.max(1)))
                }
                KvSource::Compute => Source::Temporary(features.numbers()),
            };
            *queried = Some(QueriedImage { source, text_tokens });
        });
        queried.into_iter().flatten().collect()
    }

    /// Returns what the queries of each of the `images` read in a layer. Computes keys and values
    /// that are not cached. `temporary` is memory for those that only this batch reads.
    ///
    /// # Errors
    /// [`TchError`] if the slot of an image is missing.
    pub(super) fn attended<'b>(
        &'b mut self,
        images: &'b [QueriedImage<'_>],
        (number, layer): (usize, &'b CpuTextLayer),
        heads: Heads,
        kernels: &ParallelKernels,
        temporary: &'b mut Buffer,
    ) -> Result<Vec<AttendedImage<'b>>, TchError> {
        let of_image = heads.packed_len(self.tokens).max(1);
        let count = images.iter().filter(|image| matches!(image.source, Source::Temporary(_))).count();
        let temporary = temporary.take(count * of_image);
        let mut places = temporary.chunks_exact_mut(of_image);
        for image in images {
            let (features, place) = match &image.source {
                Source::Cached(_) | Source::Features(_) => continue,
                Source::Stored(slot, features) => {
                    (features, self.cache.as_mut().ok_or_else(no_cache)?.write(number, *slot)?)
                }
                Source::Temporary(features) => (features, places.next().ok_or_else(no_place)?),
            };
            kernels.project(&layer.key_value, heads, features, place);
        }
        let mut places = temporary.chunks_exact(of_image);
        let attended = images.iter().map(|image| {
            Ok(match &image.source {
                &Source::Cached(slot) | &Source::Stored(slot, _) => {
                    let cache = self.cache.as_deref().ok_or_else(no_cache)?;
                    AttendedImage::KeyValues(cache.read(number, slot)?)
                }
                Source::Temporary(_) => AttendedImage::KeyValues(places.next().ok_or_else(no_place)?),
                Source::Features(packed) => {
                    let absorbed = layer.absorbed.as_deref();
                    let absorbed =
                        absorbed.ok_or_else(|| TchError::Shape("no absorbed projections".to_owned()));
                    AttendedImage::Features(packed, absorbed?)
                }
            })
        });
        attended.collect()
    }
}

fn no_cache() -> TchError {
    TchError::Shape("no cache of keys and values".to_owned())
}

fn no_place() -> TchError {
    TchError::Shape("no memory for keys and values".to_owned())
}

/// Returns the images of `layout` in their order, each with its source and the rows of its
/// questions.
fn images_with_rows(layout: &BatchLayout) -> impl Iterator<Item = (KvSource, Range<usize>)> + '_ {
    layout.groups.iter().flat_map(|group| {
        let [first_row, questions] = [group.first_row, group.questions].map(size);
        group.of(&layout.sources).iter().enumerate().map(move |(number, &source)| {
            let first = first_row + number * questions;
            (source, first..first + questions)
        })
    })
}

/// Returns the tokens of `texts`, which are consecutive.
pub(super) fn span(token_ranges: &[Range<usize>], texts: Range<usize>) -> Range<usize> {
    let texts = token_ranges.get(texts).unwrap_or_default();
    match (texts.first(), texts.last()) {
        (Some(first), Some(last)) => first.start..last.end,
        _ => 0..0,
    }
}
