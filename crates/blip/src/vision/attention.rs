//! Attention of the vision encoder.
//!
//! On some CUDA devices cuDNN is the fastest for sequences as long as those of an image. It
//! compiles a kernel for each number of images. Therefore it computes only passes whose kernels
//! were compiled when the model was loaded. See `docs/decisions/cuda-attention.md`.

use cuda::{CudaStreams, CudnnAttention};
use tch::{Device, Kind, TchError, Tensor};

use crate::layers::attention::attend;

/// The choice between cuDNN and the attention of the text layers.
#[derive(Debug)]
pub(crate) struct VisionAttention {
    /// `None` where it is not the fastest, or does not work.
    cudnn: Option<CudnnAttention>,
    /// Numbers of images that cuDNN computes.
    cudnn_images: Vec<i64>,
}

impl VisionAttention {
    /// Creates the attention of a model on `device`. cuDNN computes no pass yet.
    pub(crate) fn new(device: Device, kind: Kind) -> Self {
        let cudnn = match (device, kind) {
            (Device::Cuda(index), Kind::Half | Kind::BFloat16) => {
                let found = CudaStreams::open().and_then(|streams| streams.cudnn_attention(index));
                found.unwrap_or_else(|error| {
                    tracing::warn!(%error, "cuDNN attention not available; images are slower");
                    None
                })
            }
            _ => None,
        };
        Self { cudnn, cudnn_images: Vec::new() }
    }

    /// Lets cuDNN compute passes of `images` images. Returns false without cuDNN.
    pub(crate) fn use_cudnn_for(&mut self, images: i64) -> bool {
        self.cudnn_images.push(images);
        self.cudnn.is_some()
    }

    /// Computes passes of `images` images without cuDNN.
    pub(crate) fn leave_out(&mut self, images: i64) {
        self.cudnn_images.retain(|prepared| *prepared != images);
    }

    /// Computes all passes without cuDNN.
    pub(crate) fn stop_cudnn(&mut self) {
        self.cudnn = None;
    }

    /// Returns `softmax(q k^T / sqrt(head dim)) v`. All tensors are `[images, heads, tokens, head
    /// dim]`.
    pub(crate) fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor, TchError> {
        match &self.cudnn {
            Some(cudnn) if self.cudnn_images.contains(&query.size4()?.0) => {
                Ok(cudnn.attend(query, key, value)?)
            }
            _ => attend(query, key, value, None),
        }
    }
}

/// Returns the numbers of images whose passes are prepared: the powers of two up to a whole pass,
/// the largest first.
pub(crate) fn prepared_sizes(pass_images: usize) -> impl Iterator<Item = i64> {
    let largest = pass_images.max(1).ilog2();
    (0..=largest).rev().map(|power| 1 << power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_sizes_are_powers_of_two_up_to_a_pass() {
        let sizes = |pass_images| prepared_sizes(pass_images).collect::<Vec<_>>();
        assert_eq!(sizes(16), [16, 8, 4, 2, 1]);
        assert_eq!(sizes(20), [16, 8, 4, 2, 1]);
        assert_eq!([0, 1].map(sizes), [[1], [1]]);
    }
}
