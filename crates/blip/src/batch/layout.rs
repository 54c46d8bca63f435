//! The order of images and rows in a batch, grouped by image.
//!
//! Cross-attention does not order its queries. Therefore all questions about an image become one
//! row of queries over the keys of that image. In most kernels, the rows of one call must have
//! equal lengths. For this reason images are grouped by two properties: the source of their keys
//! and values, and their number of questions. The rows of a batch follow the order of the groups.
//! The layout adds no padding and repeats no image.

use std::collections::BTreeMap;

/// Source of an image's keys and values in the text encoder's cross-attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvSource {
    /// The batch computes what it needs from the image's features, in the cheaper of two ways.
    Compute,
    /// The batch computes them and stores them in this slot of the cache.
    ComputeAndStore(i64),
    /// The batch reads them from this slot of the cache.
    Cached(i64),
}

impl KvSource {
    /// Returns the cache slot of the image, if it has one.
    pub(crate) fn slot(self) -> Option<i64> {
        match self {
            Self::Compute => None,
            Self::ComputeAndStore(slot) | Self::Cached(slot) => Some(slot),
        }
    }

    /// Returns a number that is equal for sources that are computed together. Cached ones are last.
    fn kind(self) -> u8 {
        match self {
            Self::Compute => 0,
            Self::ComputeAndStore(_) => 1,
            Self::Cached(_) => 2,
        }
    }
}

/// Consecutive images of a layout with equal numbers of questions and equal kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageGroup {
    /// First image of the group, as an index into [`BatchLayout::images`].
    pub(crate) first_image: i64,
    /// Images in the group.
    pub(crate) images: i64,
    /// First row of the group, as an index into [`BatchLayout::rows`].
    pub(crate) first_row: i64,
    /// Questions about each image of the group.
    pub(crate) questions: i64,
}

impl ImageGroup {
    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> i64 {
        self.images * self.questions
    }

    /// Returns the group's part of a list that has an entry for each of [`BatchLayout::images`].
    pub(crate) fn of<'a, T>(&self, list: &'a [T]) -> &'a [T] {
        let first = self.first_image as usize;
        list.get(first..first + self.images as usize).unwrap_or_default()
    }
}

/// The order in which a batch is computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BatchLayout {
    /// The caller's image indices in computing order, without images that have no question.
    pub(crate) images: Vec<usize>,
    /// Source of each of these images' keys and values. A group has one kind of source. Groups
    /// whose images are in the cache follow all others.
    pub(crate) sources: Vec<KvSource>,
    /// The caller's row indices in computing order.
    pub(crate) rows: Vec<usize>,
    pub(crate) groups: Vec<ImageGroup>,
}

impl BatchLayout {
    /// Returns the number of images whose keys and values are in the cache.
    pub(crate) fn cached_images(&self) -> usize {
        self.sources.len() - self.uncached_images()
    }

    /// Returns the number of images that are not in the cache. They come first.
    pub(crate) fn uncached_images(&self) -> usize {
        self.sources.partition_point(|source| !matches!(source, KvSource::Cached(_)))
    }

    /// Returns the groups whose images are not in the cache, and then those whose images are.
    pub(crate) fn split_groups(&self) -> (&[ImageGroup], &[ImageGroup]) {
        let uncached = self.uncached_images() as i64;
        self.groups.split_at(self.groups.partition_point(|group| group.first_image < uncached))
    }

    /// Returns the position of each row's image in [`Self::images`].
    pub(crate) fn image_positions(&self) -> Vec<i64> {
        let images = self.groups.iter().flat_map(|group| {
            let rows = 0..group.rows();
            rows.map(|row| group.first_image + row / group.questions)
        });
        images.collect()
    }

    /// Creates the layout of the rows `rows`. `image_of_row[i]` is the image of row `i`.
    pub(crate) fn new(image_of_row: &[usize], rows: impl IntoIterator<Item = usize>) -> Self {
        Self::with_sources(image_of_row, rows, |images| vec![KvSource::Compute; images.len()])
    }

    /// Creates a layout as [`Self::new`] does, with sources of keys and values.
    ///
    /// `sources` receives the index of each image and its number of questions. It returns a source
    /// for each of these images.
    pub(crate) fn with_sources(
        image_of_row: &[usize],
        rows: impl IntoIterator<Item = usize>,
        sources: impl FnOnce(&[(usize, usize)]) -> Vec<KvSource>,
    ) -> Self {
        let mut of_image: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for row in rows {
            if let Some(&image) = image_of_row.get(row) {
                of_image.entry(image).or_default().push(row);
            }
        }
        let counts: Vec<(usize, usize)> = of_image.iter().map(|(&image, rows)| (image, rows.len())).collect();
        let mut images: Vec<(KvSource, usize, Vec<usize>)> = sources(&counts)
            .into_iter()
            .zip(of_image)
            .map(|(source, (image, rows))| (source, image, rows))
            .collect();
        let group_key = |(source, _, rows): &(KvSource, usize, Vec<usize>)| (source.kind(), rows.len());
        images.sort_by_key(group_key);
        let mut layout = Self::default();
        for group in images.chunk_by(|left, right| group_key(left) == group_key(right)) {
            layout.groups.push(ImageGroup {
                first_image: layout.images.len() as i64,
                images: group.len() as i64,
                first_row: layout.rows.len() as i64,
                questions: group.first().map_or(0, |(_, _, rows)| rows.len() as i64),
            });
            for (source, image, rows) in group {
                layout.sources.push(*source);
                layout.images.push(*image);
                layout.rows.extend(rows);
            }
        }
        layout
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn images_with_equal_question_counts_form_one_group() {
        let layout = BatchLayout::new(&[0, 1, 0, 2], 0..4);
        assert_eq!(layout.images, [1, 2, 0]);
        assert_eq!(layout.rows, [1, 3, 0, 2]);
        assert_eq!(
            layout.groups,
            [
                ImageGroup { first_image: 0, images: 2, first_row: 0, questions: 1 },
                ImageGroup { first_image: 2, images: 1, first_row: 2, questions: 2 },
            ]
        );
    }

    #[test]
    fn images_with_different_kv_sources_form_separate_groups() {
        let sources = |_: &[(usize, usize)]| {
            vec![KvSource::Cached(7), KvSource::Compute, KvSource::Cached(3), KvSource::ComputeAndStore(1)]
        };
        let layout = BatchLayout::with_sources(&[0, 1, 2, 3, 3], 0..5, sources);
        assert_eq!(layout.images, [1, 3, 0, 2]);
        assert_eq!(
            layout.sources,
            [KvSource::Compute, KvSource::ComputeAndStore(1), KvSource::Cached(7), KvSource::Cached(3)]
        );
        assert_eq!(layout.rows, [1, 3, 4, 0, 2]);
        let of_groups: Vec<&[KvSource]> =
            layout.groups.iter().map(|group| group.of(&layout.sources)).collect();
        assert_eq!(of_groups, [&layout.sources[..1], &layout.sources[1..2], &layout.sources[2..]]);
        let (uncached, cached) = layout.split_groups();
        assert_eq!((uncached.len(), cached.len()), (2, 1));
        assert_eq!((layout.uncached_images(), layout.cached_images()), (2, 2));
    }

    #[test]
    fn kv_source_callback_receives_question_count_of_each_image() {
        let mut received = Vec::new();
        BatchLayout::with_sources(&[5, 2, 5], 0..3, |images| {
            received.extend_from_slice(images);
            vec![KvSource::Compute; images.len()]
        });
        assert_eq!(received, [(2, 1), (5, 2)]);
    }

    #[test]
    fn image_without_selected_question_is_left_out() {
        assert_eq!(BatchLayout::new(&[0, 1], [1]).images, [1]);
        assert_eq!(BatchLayout::new(&[], 0..0), BatchLayout::default());
    }

    proptest! {
        #[test]
        fn every_selected_row_has_one_position_in_its_group(image_of_row in prop::collection::vec(0usize..6, 0..40), skip in 0usize..5) {
            let expected: Vec<usize> = (0..image_of_row.len()).filter(|row| row % 5 != skip).collect();
            let layout = BatchLayout::new(&image_of_row, expected.iter().copied());
            let mut rows = layout.rows.clone();
            rows.sort_unstable();
            prop_assert_eq!(rows, expected);
            let positions = layout.image_positions();
            prop_assert_eq!(positions.len(), layout.rows.len());
            for (&row, position) in layout.rows.iter().zip(positions) {
                prop_assert_eq!(image_of_row[row], layout.images[position as usize]);
            }
            for group in &layout.groups {
                for image in 0..group.images {
                    for question in 0..group.questions {
                        let row = layout.rows[(group.first_row + image * group.questions + question) as usize];
                        prop_assert_eq!(image_of_row[row], layout.images[(group.first_image + image) as usize]);
                    }
                }
            }
        }
    }
}
