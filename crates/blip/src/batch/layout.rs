//! How the questions of a batch share its images.
//!
//! Cross-attention has no order among its queries, so all questions on one image are one row of queries over that
//! image's keys. Rows of one call must be of one length; therefore images are grouped by how many questions
//! they have and by where their keys and values come from, and batch rows are put in the order of those groups. Nothing is
//! padded and no image is repeated.

use std::collections::BTreeMap;

/// Where the question encoder finds an image's keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvSource {
    /// Nowhere: it reads the image's features, in whichever way is cheaper.
    Compute,
    /// They are made for this batch, and stay in this slot of the cache.
    ComputeAndStore(i64),
    /// They are in this slot of the cache.
    Cached(i64),
}

impl KvSource {
    /// The slot of the cache that belongs to the image, if any does.
    pub(crate) fn slot(self) -> Option<i64> {
        match self {
            Self::Compute => None,
            Self::ComputeAndStore(slot) | Self::Cached(slot) => Some(slot),
        }
    }

    /// The same for those that are computed together.
    fn kind(self) -> u8 {
        match self {
            Self::Compute => 0,
            Self::ComputeAndStore(_) => 1,
            Self::Cached(_) => 2,
        }
    }
}

/// A run of images that have equally many questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageGroup {
    /// First image of the group, as an index into [`BatchLayout::images`].
    pub(crate) first_image: i64,
    /// Images in the group.
    pub(crate) images: i64,
    /// First row of the group, as an index into [`BatchLayout::rows`].
    pub(crate) first_row: i64,
    /// Questions on each image of the group.
    pub(crate) questions: i64,
}

impl ImageGroup {
    /// The group's part of a list with an entry for each of [`BatchLayout::images`].
    pub(crate) fn of<'a, T>(&self, list: &'a [T]) -> &'a [T] {
        let first = self.first_image as usize;
        list.get(first..first + self.images as usize).unwrap_or_default()
    }
}

/// The order that a batch is computed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BatchLayout {
    /// The caller's image indices in computing order; images without a question are left out.
    pub(crate) images: Vec<usize>,
    /// Where each of these images' keys and values come from; one kind of source in each group.
    pub(crate) sources: Vec<KvSource>,
    /// The caller's row indices in computing order.
    pub(crate) rows: Vec<usize>,
    pub(crate) groups: Vec<ImageGroup>,
}

impl BatchLayout {
    /// Images whose keys and values are in the cache.
    pub(crate) fn cached_images(&self) -> usize {
        self.sources.iter().filter(|source| matches!(source, KvSource::Cached(_))).count()
    }

    /// `image_of_row[i]` is the image that row `i` asks about; the layout holds only the rows in `rows`.
    pub(crate) fn new(image_of_row: &[usize], rows: impl IntoIterator<Item = usize>) -> Self {
        Self::with_sources(image_of_row, rows, |images| vec![KvSource::Compute; images.len()])
    }

    /// As [`Self::new`]; `sources` is asked where the keys and values of the images come from, each of which is given by its
    /// index with the number of questions about it.
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
        let like = |(source, _, rows): &(KvSource, usize, Vec<usize>)| (rows.len(), source.kind());
        images.sort_by_key(like);
        let mut layout = Self::default();
        for group in images.chunk_by(|left, right| like(left) == like(right)) {
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
    fn images_with_equally_many_questions_form_one_group() {
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
    fn images_whose_keys_and_values_come_from_different_places_are_apart() {
        let sources = |_: &[(usize, usize)]| {
            vec![KvSource::Cached(7), KvSource::Compute, KvSource::Cached(3), KvSource::ComputeAndStore(1)]
        };
        let layout = BatchLayout::with_sources(&[0, 1, 2, 3, 3], 0..5, sources);
        assert_eq!(layout.images, [1, 0, 2, 3]);
        assert_eq!(
            layout.sources,
            [KvSource::Compute, KvSource::Cached(7), KvSource::Cached(3), KvSource::ComputeAndStore(1)]
        );
        assert_eq!(layout.rows, [1, 0, 2, 3, 4]);
        let of_groups: Vec<&[KvSource]> =
            layout.groups.iter().map(|group| group.of(&layout.sources)).collect();
        assert_eq!(of_groups, [&layout.sources[..1], &layout.sources[1..3], &layout.sources[3..]]);
    }

    #[test]
    fn where_keys_and_values_come_from_is_asked_with_the_number_of_questions_about_each_image() {
        let mut asked = Vec::new();
        BatchLayout::with_sources(&[5, 2, 5], 0..3, |images| {
            asked.extend_from_slice(images);
            vec![KvSource::Compute; images.len()]
        });
        assert_eq!(asked, [(2, 1), (5, 2)]);
    }

    #[test]
    fn an_image_without_a_wanted_question_is_left_out() {
        assert_eq!(BatchLayout::new(&[0, 1], [1]).images, [1]);
        assert_eq!(BatchLayout::new(&[], 0..0), BatchLayout::default());
    }

    proptest! {
        #[test]
        fn every_wanted_row_is_once_in_the_place_its_group_says(image_of_row in prop::collection::vec(0usize..6, 0..40), skip in 0usize..5) {
            let expected: Vec<usize> = (0..image_of_row.len()).filter(|row| row % 5 != skip).collect();
            let layout = BatchLayout::new(&image_of_row, expected.iter().copied());
            let mut rows = layout.rows.clone();
            rows.sort_unstable();
            prop_assert_eq!(rows, expected);
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
