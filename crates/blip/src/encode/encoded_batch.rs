//! A batch whose images are encoded: what every kind of model goes on from.

use crate::{
    batch::{
        layout::BatchLayout,
        rows::{RowAnswer, RowInput},
        task::RowOutput,
    },
    cache::batch_features::BatchFeatures,
    device::stage_timer::{StageTimer, StageTimes},
};

/// Rows that are wanted, and the features of the images that they are about.
#[derive(Debug)]
pub(crate) struct EncodedBatch<'a> {
    /// All rows of the caller.
    pub(crate) rows: &'a [RowInput<'a>],
    /// The wanted rows that are about an image, in computing order.
    pub(crate) layout: BatchLayout,
    /// In the order of `layout`.
    pub(crate) features: BatchFeatures<'a>,
    /// The wanted rows without an image.
    pub(crate) texts_without_image: Vec<usize>,
    /// The caller's indices of images that were encoded for this batch.
    pub(crate) new_images: Vec<usize>,
    /// Started before they were encoded.
    pub(crate) timer: StageTimer,
}

impl<'a> EncodedBatch<'a> {
    /// A row of the caller's.
    pub(crate) fn row(&self, row: usize) -> Option<&'a RowInput<'a>> {
        self.rows.get(row)
    }

    /// The rows of `layout` with their inputs, in computing order.
    pub(crate) fn rows_in_order(&self) -> impl Iterator<Item = (usize, &'a RowInput<'a>)> + '_ {
        self.layout.rows.iter().filter_map(|&row| Some((row, self.row(row)?)))
    }

    /// Whether the row's image was encoded before this batch.
    pub(crate) fn image_reused(&self, row: usize) -> bool {
        let image = self.row(row).and_then(|input| input.image);
        image.is_some_and(|image| !self.new_images.contains(&image))
    }

    /// What came of a row, after so long in each stage.
    pub(crate) fn answer(&self, row: usize, output: RowOutput, times: StageTimes) -> RowAnswer {
        let StageTimes { vision, text, decode } = times;
        RowAnswer { output, vision, text, decode, image_reused: self.image_reused(row) }
    }
}
