//! How the questions of a batch share its images.
//!
//! Cross-attention has no order among its queries, so all questions on one image are one row of queries over that
//! image's keys. Rows of one call must be of one length; therefore images are grouped by how many questions
//! they have, and batch rows are put in the order of those groups. Nothing is padded and no image is repeated.

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

/// The order that a batch is computed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fold {
    /// The caller's image indices in computing order; images without a question are left out.
    pub(crate) images: Vec<usize>,
    /// The caller's row indices in computing order.
    pub(crate) rows: Vec<usize>,
    pub(crate) groups: Vec<FoldGroup>,
}

impl Fold {
    /// `image_of_row[i]` is the image that row `i` asks about; only the rows in `wanted` take part.
    pub(crate) fn new(image_of_row: &[usize], wanted: impl IntoIterator<Item = usize>) -> Self {
        let mut of_image: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
        for row in wanted {
            if let Some(&image) = image_of_row.get(row) {
                of_image.entry(image).or_default().push(row);
            }
        }
        let mut images: Vec<(usize, Vec<usize>)> = of_image.into_iter().collect();
        images.sort_by_key(|(_, rows)| rows.len());
        let mut fold = Self::default();
        for same_count in images.chunk_by(|(_, left), (_, right)| left.len() == right.len()) {
            fold.groups.push(FoldGroup {
                first_image: fold.images.len() as i64,
                images: same_count.len() as i64,
                first_row: fold.rows.len() as i64,
                questions: same_count.first().map_or(0, |(_, rows)| rows.len() as i64),
            });
            for (image, rows) in same_count {
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
