//! A batch whose image features are available: the input of every head.

use crate::{
    batch::{
        layout::BatchLayout,
        rows::{RowAnswer, RowInput},
        task::RowOutput,
    },
    cache::batch_features::BatchFeatures,
    device::stage_timer::{StageTimer, StageTimes},
};

/// The rows of a batch with the features of their images.
#[derive(Debug)]
pub(crate) struct EncodedBatch<'a> {
    /// All rows of the caller.
    pub(crate) rows: &'a [RowInput<'a>],
    /// The active rows with an image, in computing order.
    pub(crate) layout: BatchLayout,
    /// Image features, in the order of `layout`.
    pub(crate) features: BatchFeatures<'a>,
    /// The active rows without an image.
    pub(crate) texts_without_image: Vec<usize>,
    /// The caller's indices of the images that were encoded for this batch.
    pub(crate) new_images: Vec<usize>,
    /// Timer that was started before the images were encoded.
    pub(crate) timer: StageTimer,
}

impl<'a> EncodedBatch<'a> {
    /// Returns the input of the caller's row `row`.
    pub(crate) fn row(&self, row: usize) -> Option<&'a RowInput<'a>> {
        self.rows.get(row)
    }

    /// Returns the rows of `layout` with their inputs, in computing order.
    pub(crate) fn rows_in_order(&self) -> impl Iterator<Item = (usize, &'a RowInput<'a>)> + '_ {
        self.layout.rows.iter().filter_map(|&row| Some((row, self.row(row)?)))
    }

    /// Returns whether the row's image was encoded before this batch.
    pub(crate) fn image_reused(&self, row: usize) -> bool {
        let image = self.row(row).and_then(|input| input.image);
        image.is_some_and(|image| !self.new_images.contains(&image))
    }

    /// Returns the answer of a row with the time of each stage.
    pub(crate) fn answer(&self, row: usize, output: RowOutput, times: StageTimes) -> RowAnswer {
        let StageTimes { vision, text, decode } = times;
        RowAnswer { output, vision, text, decode, image_reused: self.image_reused(row) }
    }
}
