//! Encodes pixels to features: uploads them and runs the vision encoder in passes.

use std::ops::Range;

use tch::{Device, TchError, Tensor};

use cpu_kernels::NumberFormat;

use crate::{
    cache::feature_buffer::FeatureBuffer,
    checkpoint::config::vision::VisionConfig,
    cpu::vision_encoder::CpuVisionEncoder,
    cuda_graphs::CudaGraphs,
    error::ModelError,
    layers::tensor_slice::as_slice,
    preprocess::Pixels,
    vision::{encoder::VisionEncoder, pixel_uploader::PixelUploader},
};

/// The vision encoder of a model with its pixel upload.
#[derive(Debug)]
pub(crate) struct ImageEncoder {
    vision: Vision,
    /// Images of one pass. More images need more memory for activations.
    pass_images: usize,
}

/// The implementation of the vision encoder.
#[derive(Debug)]
enum Vision {
    LibTorch { vision: VisionEncoder, uploader: PixelUploader },
    Cpu { vision: CpuVisionEncoder, shape: [i64; 2] },
}

impl ImageEncoder {
    /// Creates an encoder on LibTorch's kernels, for batches of up to `batch_images` images.
    pub(crate) fn on_libtorch(
        vision: VisionEncoder,
        config: &VisionConfig,
        device: Device,
        [batch_images, pass_images]: [usize; 2],
    ) -> Result<Self, TchError> {
        let sizes @ [_, pass_images] = [batch_images.max(1), pass_images.max(1)];
        let uploader = PixelUploader::new(sizes, config.image_size, device)?;
        let vision = Vision::LibTorch { vision, uploader };
        Ok(Self { vision, pass_images })
    }

    /// Creates an encoder on the native CPU kernels, which compute in f32.
    pub(crate) fn on_cpu_kernels(
        vision: CpuVisionEncoder,
        config: &VisionConfig,
        pass_images: usize,
    ) -> Self {
        let vision = Vision::Cpu { vision, shape: [config.tokens(), config.hidden_size] };
        Self { vision, pass_images: pass_images.max(1) }
    }

    /// Prepares the vision encoder for the numbers of images of a pass, on a CUDA device.
    ///
    /// # Errors
    /// [`ModelError::Fatal`].
    pub(crate) fn prepare(&mut self, side: i64) -> Result<(), ModelError> {
        match &mut self.vision {
            Vision::LibTorch { vision, .. } => vision.prepare(side, self.pass_images),
            Vision::Cpu { .. } => Ok(()),
        }
    }

    /// Captures the graphs of the vision encoder.
    pub(crate) fn capture(&self, side: i64, graphs: &mut CudaGraphs) {
        if let Vision::LibTorch { vision, .. } = &self.vision {
            graphs.capture_images(vision, side, self.pass_images);
        }
    }

    /// Encodes `images`, which are all images of a batch.
    ///
    /// After each pass, `take` receives the positions of its images and their features `[images,
    /// tokens, hidden]`.
    pub(crate) fn encode(
        &mut self,
        images: &[&Pixels],
        graphs: &mut CudaGraphs,
        mut take: impl FnMut(Range<usize>, &Tensor) -> Result<(), TchError>,
    ) -> Result<(), TchError> {
        let passes = passes(images, self.pass_images);
        match &mut self.vision {
            Vision::LibTorch { vision, uploader } => {
                let mut encode = |(positions, images): (Range<usize>, &[&Pixels])| {
                    let pixels = uploader.upload(positions.start, images)?;
                    let features = match graphs.encode_images(&pixels)? {
                        Some(features) => features,
                        None => vision.forward(&pixels)?,
                    };
                    take(positions, &features)
                };
                passes.into_iter().try_for_each(&mut encode)
            }
            Vision::Cpu { vision, shape: [tokens, hidden] } => {
                passes.into_iter().try_for_each(|(positions, images)| {
                    let features = vision.forward(images, Tensor::f_from_slice)?;
                    take(positions, &features.f_view([-1, *tokens, *hidden])?)
                })
            }
        }
    }

    /// Encodes `images` to one buffer each, `[tokens, hidden]`, in main memory, for texts in
    /// `format`.
    pub(crate) fn encode_to_buffers(
        &mut self,
        images: &[&Pixels],
        graphs: &mut CudaGraphs,
        format: NumberFormat,
    ) -> Result<Vec<FeatureBuffer>, TchError> {
        let mut made = Vec::with_capacity(images.len());
        let mut split = |features: &[f32], images: usize| {
            let of_image = features.len() / images.max(1);
            let features = features.chunks_exact(of_image.max(1));
            made.extend(features.map(|features| FeatureBuffer::new(features, format)));
        };
        match &self.vision {
            Vision::Cpu { vision, .. } => {
                for (positions, images) in passes(images, self.pass_images) {
                    vision.forward(images, |features| split(features, positions.len()));
                }
            }
            Vision::LibTorch { .. } => self.encode(images, graphs, |positions, features| {
                split(as_slice(features)?, positions.len());
                Ok(())
            })?,
        }
        Ok(made)
    }
}

/// Cuts `images` into passes of `length` images, with their positions.
fn passes<'a, 'b>(images: &'a [&'b Pixels], length: usize) -> Vec<(Range<usize>, &'a [&'b Pixels])> {
    let positions = (0..).step_by(length).zip(images.chunks(length));
    positions.map(|(first, images)| (first..first + images.len(), images)).collect()
}
