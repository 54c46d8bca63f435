//! How the questions of a batch share its images.
//!
//! Cross-attention has no order among its queries, so all questions on one image are one row of queries over that
//! image's keys. Rows of one call must be of one length; therefore images are grouped by how many questions
//! they have and by where their keys and values come from, and batch rows are put in the order of those groups. Nothing is
//! padded and no image is repeated.

use std::collections::BTreeMap;

/// Where the question encoder finds an image's keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nowhere: it reads the image's features, in whichever way is cheaper.
    Features,
    /// They are made for this batch, and stay in this slot of the cache.
    Keep(i64),
    /// They are in this slot of the cache.
    Kept(i64),
}

impl Source {
    /// The slot of the cache that belongs to the image, if any does.
    pub(crate) fn slot(self) -> Option<i64> {
        match self {
            Self::Features => None,
            Self::Keep(slot) | Self::Kept(slot) => Some(slot),
        }
    }

    /// The same for those that are computed together.
    fn kind(self) -> u8 {
        match self {
            Self::Features => 0,
            Self::Keep(_) => 1,
            Self::Kept(_) => 2,
        }
    }
}

/// A run of images that have equally many questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoldGroup {
    /// First image of the group, as an index into [`Fold::images`].
    pub(crate) first_image: i64,
    /// Images in the group.
    pub(crate) images: i64,
    /// First row of the group, as an index into [`Fold::rows`].
    pub(crate) first_row: i64,
    /// Questions on each image of the group.
    pub(crate) questions: i64,
}

impl FoldGroup {
    /// The group's part of a list with an entry for each of [`Fold::images`].
    pub(crate) fn of<'a, T>(&self, list: &'a [T]) -> &'a [T] {
        let first = self.first_image as usize;
        list.get(first..first + self.images as usize).unwrap_or_default()
    }
}

/// The order that a batch is computed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fold {
    /// The caller's image indices in computing order; images without a question are left out.
    pub(crate) images: Vec<usize>,
    /// Where each of these images' keys and values come from; one kind of source in each group.
    pub(crate) sources: Vec<Source>,
    /// The caller's row indices in computing order.
    pub(crate) rows: Vec<usize>,
    pub(crate) groups: Vec<FoldGroup>,
}

impl Fold {
    /// Images whose keys and values are in the cache.
    pub(crate) fn kept_images(&self) -> usize {
        self.sources.iter().filter(|source| matches!(source, Source::Kept(_))).count()
    }

    /// `image_of_row[i]` is the image that row `i` asks about; only the rows in `wanted` take part.
    pub(crate) fn new(image_of_row: &[usize], wanted: impl IntoIterator<Item = usize>) -> Self {
        Self::with_sources(image_of_row, wanted, |images| vec![Source::Features; images.len()])
    }

    /// As [`Self::new`]; `sources` is asked where the keys and values of the images come from, each of which is given by its
    /// index with the number of questions about it.
    pub(crate) fn with_sources(
        image_of_row: &[usize],
        wanted: impl IntoIterator<Item = usize>,
        sources: impl FnOnce(&[(usize, usize)]) -> Vec<Source>,
    ) -> Self {
        let mut of_image: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for row in wanted {
            if let Some(&image) = image_of_row.get(row) {
                of_image.entry(image).or_default().push(row);
            }
        }
        let counts: Vec<(usize, usize)> = of_image.iter().map(|(&image, rows)| (image, rows.len())).collect();
        let mut images: Vec<(Source, usize, Vec<usize>)> = sources(&counts)
            .into_iter()
            .zip(of_image)
            .map(|(source, (image, rows))| (source, image, rows))
            .collect();
        let like = |(source, _, rows): &(Source, usize, Vec<usize>)| (rows.len(), source.kind());
        images.sort_by_key(like);
        let mut fold = Self::default();
        for group in images.chunk_by(|left, right| like(left) == like(right)) {
            fold.groups.push(FoldGroup {
                first_image: fold.images.len() as i64,
                images: group.len() as i64,
                first_row: fold.rows.len() as i64,
                questions: group.first().map_or(0, |(_, _, rows)| rows.len() as i64),
            });
            for (source, image, rows) in group {
                fold.sources.push(*source);
                fold.images.push(*image);
                fold.rows.extend(rows);
            }
        }
        fold
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn images_with_equally_many_questions_form_one_group() {
        let fold = Fold::new(&[0, 1, 0, 2], 0..4);
        assert_eq!(fold.images, [1, 2, 0]);
        assert_eq!(fold.rows, [1, 3, 0, 2]);
        assert_eq!(
            fold.groups,
            [
                FoldGroup { first_image: 0, images: 2, first_row: 0, questions: 1 },
                FoldGroup { first_image: 2, images: 1, first_row: 2, questions: 2 },
            ]
        );
    }

    #[test]
    fn images_whose_keys_and_values_come_from_different_places_are_apart() {
        let sources =
            |_: &[(usize, usize)]| vec![Source::Kept(7), Source::Features, Source::Kept(3), Source::Keep(1)];
        let fold = Fold::with_sources(&[0, 1, 2, 3, 3], 0..5, sources);
        assert_eq!(fold.images, [1, 0, 2, 3]);
        assert_eq!(fold.sources, [Source::Features, Source::Kept(7), Source::Kept(3), Source::Keep(1)]);
        assert_eq!(fold.rows, [1, 0, 2, 3, 4]);
        let of_groups: Vec<&[Source]> = fold.groups.iter().map(|group| group.of(&fold.sources)).collect();
        assert_eq!(of_groups, [&fold.sources[..1], &fold.sources[1..3], &fold.sources[3..]]);
    }

    #[test]
    fn where_keys_and_values_come_from_is_asked_with_the_number_of_questions_about_each_image() {
        let mut asked = Vec::new();
        Fold::with_sources(&[5, 2, 5], 0..3, |images| {
            asked.extend_from_slice(images);
            vec![Source::Features; images.len()]
        });
        assert_eq!(asked, [(2, 1), (5, 2)]);
    }

    #[test]
    fn an_image_without_a_wanted_question_is_left_out() {
        assert_eq!(Fold::new(&[0, 1], [1]).images, [1]);
        assert_eq!(Fold::new(&[], 0..0), Fold::default());
    }

    proptest! {
        #[test]
        fn every_wanted_row_is_once_in_the_place_its_group_says(image_of_row in prop::collection::vec(0usize..6, 0..40), skip in 0usize..5) {
            let wanted: Vec<usize> = (0..image_of_row.len()).filter(|row| row % 5 != skip).collect();
            let fold = Fold::new(&image_of_row, wanted.iter().copied());
            let mut rows = fold.rows.clone();
            rows.sort_unstable();
            prop_assert_eq!(rows, wanted);
            for group in &fold.groups {
                for image in 0..group.images {
                    for question in 0..group.questions {
                        let row = fold.rows[(group.first_row + image * group.questions + question) as usize];
                        prop_assert_eq!(image_of_row[row], fold.images[(group.first_image + image) as usize]);
                    }
                }
            }
        }
    }
}
