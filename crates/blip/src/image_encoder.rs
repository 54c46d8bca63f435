//! From pixels to features, by the kernels that a model has: uploaded, and encoded in passes.

use tch::{Device, TchError, Tensor};

use crate::{
    config::VisionConfig, device_graphs::DeviceGraphs, preprocess::Pixels, shared_images::Numbers,
    small::SmallVision, stopwatch::Stopwatch, tensor_numbers::numbers, upload::Upload, vision::VisionEncoder,
};

/// The image encoder of a model, with its way in.
#[derive(Debug)]
pub(crate) struct ImageEncoder {
    pub(crate) vision: VisionEncoder,
    /// The same on slices.
    pub(crate) small: Option<SmallVision>,
    upload: Upload,
    /// Images that go through it together; more need more memory for activations.
    pass_images: usize,
    device: Device,
}

impl ImageEncoder {
    /// An encoder for batches of up to `batch_images`.
    pub(crate) fn new(
        vision: VisionEncoder,
        small: Option<SmallVision>,
        config: &VisionConfig,
        device: Device,
        [batch_images, pass_images]: [usize; 2],
    ) -> Result<Self, TchError> {
        let upload = Upload::new(batch_images.max(1) as i64, config.image_size, device)?;
        Ok(Self { vision, small, upload, pass_images: pass_images.max(1), device })
    }

    /// Encodes `images`, the whole of a batch. `take` gets `[some, tokens, hidden]` of those from a place on, pass by pass.
    pub(crate) fn encode(
        &mut self,
        images: &[&Pixels],
        graphs: &mut DeviceGraphs,
        mut take: impl FnMut(usize, &Tensor) -> Result<(), TchError>,
    ) -> Result<(), TchError> {
        let mut passes = images.chunks(self.pass_images).zip((0..).step_by(self.pass_images));
        let encoded = passes.try_for_each(|(images, first)| {
            let pixels = self.upload.send(first as i64, images)?;
            let features = match graphs.encode_images(&self.vision, &pixels)? {
                Some(features) => features,
                None => self.vision.forward(&pixels)?,
            };
            take(first, &features)
        });
        if encoded.is_err() {
            // Copies may still be under way: their memory must not be written before they are done.
            Stopwatch::start(self.device).lap();
        }
        encoded
    }

    /// Each image's features `[tokens, hidden]` by themselves, on the CPU in f32.
    pub(crate) fn encode_to_numbers(
        &mut self,
        images: &[&Pixels],
        graphs: &mut DeviceGraphs,
    ) -> Result<Vec<Numbers>, TchError> {
        let mut made = Vec::with_capacity(images.len());
        let mut split = |features: &[f32], images: usize| {
            let of_image = features.len() / images.max(1);
            made.extend(features.chunks_exact(of_image.max(1)).map(Numbers::from));
        };
        match &self.small {
            Some(small) => images
                .chunks(self.pass_images)
                .for_each(|images| small.forward(images, |features| split(features, images.len()))),
            None => self.encode(images, graphs, |_, features| {
                split(numbers(features)?, features.size3()?.0 as usize);
                Ok(())
            })?,
        }
        Ok(made)
    }
}
