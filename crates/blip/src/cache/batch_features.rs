//! The features of the images of one batch.

use tch::{TchError, Tensor};

use crate::{
    cache::{feature_buffer::FeatureBuffer, features::FeatureCache},
    layers::tensor_slice::{filled, size},
};

/// Features of the images of a batch, in the order of its layout.
#[derive(Debug)]
pub(crate) enum BatchFeatures<'a> {
    /// The features are in these slots of the cache.
    Slots(&'a FeatureCache, Vec<i64>),
    /// The features of each image are in a buffer `[tokens, hidden]` in main memory.
    Buffers(Vec<FeatureBuffer>, [i64; 2]),
}

impl BatchFeatures<'_> {
    /// Returns the features of all images, `[images, tokens, hidden]`.
    pub(crate) fn gather(&self) -> Result<Tensor, TchError> {
        self.gather_first(usize::MAX)
    }

    /// Returns the features of the first `count` images, or of all if there are fewer.
    pub(crate) fn gather_first(&self, count: usize) -> Result<Tensor, TchError> {
        match self {
            Self::Slots(cache, slots) => cache.gather(first(slots, count)),
            Self::Buffers(images, [tokens, hidden]) => {
                let images = first(images, count);
                filled(&[images.len() as i64, *tokens, *hidden], |all| {
                    let places = all.chunks_exact_mut(size(tokens * hidden).max(1));
                    places.zip(images).for_each(|(place, image)| place.copy_from_slice(&image.numbers()));
                    Ok(())
                })
            }
        }
    }

    /// Returns the features of the image at `position`, `[1, tokens, hidden]`.
    ///
    /// # Errors
    /// [`TchError::Shape`] if there is no such image.
    pub(crate) fn image(&self, position: usize) -> Result<Tensor, TchError> {
        match self {
            Self::Slots(cache, slots) => match slots.get(position) {
                Some(&slot) => cache.gather(&[slot]),
                None => Err(TchError::Shape(format!("no feature slot of image {position}"))),
            },
            Self::Buffers(_, [tokens, hidden]) => {
                Tensor::f_from_slice(&self.buffer(position)?.numbers())?.f_view([1, *tokens, *hidden])
            }
        }
    }

    /// Returns the tokens of an image whose features are in a buffer. It is 0 for others.
    pub(crate) fn tokens_in_buffers(&self) -> usize {
        match self {
            Self::Slots(..) => 0,
            Self::Buffers(_, [tokens, _]) => size(*tokens),
        }
    }

    /// Returns the features of the image at `position`, `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`TchError::Shape`] if the image has no separate buffer.
    pub(crate) fn buffer(&self, position: usize) -> Result<&FeatureBuffer, TchError> {
        let image = match self {
            Self::Slots(..) => None,
            Self::Buffers(images, _) => images.get(position),
        };
        image.ok_or_else(|| TchError::Shape(format!("no feature buffer of image {position}")))
    }
}

/// Returns the first `count` elements of `list`, or all if there are fewer.
fn first<T>(list: &[T], count: usize) -> &[T] {
    list.get(..count).unwrap_or(list)
}
