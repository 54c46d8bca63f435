//! The vision encoder: a vision transformer with pre-norm layers (`BlipVisionModel` of the
//! reference).

use tch::{Kind, TchError, Tensor};

use crate::{
    checkpoint::config::vision::VisionConfig,
    device::{torch_panics::return_torch_panics, transfer::to_device},
    dtype::PartDtype,
    error::{LoadError, ModelError},
    layers::{
        attention::merge_heads,
        dense::{Dense, FeedForward},
        fp8_linear::Fp8Linear,
        fused_kernels::FusedKernels,
        layer_norm::LayerNorm,
        linear::Linear,
        position_embeddings,
        weight_path::WeightPath,
    },
    vision::attention::{VisionAttention, prepared_sizes},
};

/// The vision encoder on LibTorch. It returns a state for each patch and one for the class token.
#[derive(Debug)]
pub(crate) struct VisionEncoder {
    patch: Dense,
    /// `[1, 1, hidden]`: the class embedding plus the embedding of its position.
    class_state: Tensor,
    /// Position embeddings of the patches, `[1, patches, hidden]`.
    positions: Tensor,
    first_norm: LayerNorm,
    layers: Vec<VisionLayer>,
    attention: VisionAttention,
    grid: i64,
    patch_size: i64,
    /// `[3]` in f32: `pixel * scale + offset` is the normalized value.
    scale: Tensor,
    offset: Tensor,
    kind: Kind,
}

impl VisionEncoder {
    /// Loads `vision_model.*`.
    ///
    /// `scale` and `offset` normalize 8-bit pixels for each channel. `dtype` is the number format
    /// of the layers' products.
    pub(crate) fn load(
        root: &WeightPath<'_>,
        config: &VisionConfig,
        scale: [f32; 3],
        offset: [f32; 3],
        kind: Kind,
        dtype: PartDtype,
    ) -> Result<Self, LoadError> {
        let path = root.at("vision_model");
        let (hidden, patch_size) = (config.hidden_size, config.patch_size);
        if dtype == PartDtype::Fp8 {
            let (rows, inner) = (config.tokens(), config.intermediate_size);
            for [inputs, outputs] in
                [[hidden, 3 * hidden], [hidden, hidden], [hidden, inner], [inner, hidden]]
            {
                Fp8Linear::check(path.device(), [rows, inputs, outputs])?;
            }
        }
        let embeddings = path.at("embeddings");
        let patch = Linear::load_patches(&embeddings.at("patch_embedding"), patch_size, hidden)?;
        let patch = Dense::new(patch, path.kernels(), path.cuda_gelu())?;
        let tokens = config.tokens();
        let positions = position_embeddings::load(&embeddings, config)?;
        let class_embedding = embeddings.tensor("class_embedding", &[1, 1, hidden])?;
        let layer = |index| path.at(format_args!("encoder.layers.{index}"));
        let norm_before = |index| {
            if index == config.num_hidden_layers {
                return LayerNorm::load(&path.at("post_layernorm"), hidden, config.layer_norm_eps);
            }
            load_input_norm(&layer(index).at("layer_norm1"), config, dtype)
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| VisionLayer::load(&layer(index), norm_before(index + 1)?, config, dtype))
            .collect::<Result<_, _>>()?;
        let device = positions.device();
        Ok(Self {
            patch,
            class_state: class_embedding.f_add(&positions.f_narrow(1, 0, 1)?)?,
            positions: positions.f_narrow(1, 1, tokens - 1)?.f_contiguous()?,
            first_norm: norm_before(0)?,
            layers,
            attention: VisionAttention::new(device, kind),
            grid: config.grid(),
            patch_size,
            scale: to_device(&scale, device)?,
            offset: to_device(&offset, device)?,
            kind,
        })
    }

    /// Encodes pixels `[images, height, width, 3]` of u8 on the model's device. Returns features
    /// `[images, tokens, hidden]`.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor, TchError> {
        let (images, ..) = pixels.size4()?;
        let patches = self.patch.forward(&self.patches(pixels, images)?)?;
        let patches = patches.f_add(&self.positions)?;
        let class_state = self.class_state.f_expand([images, 1, -1], false)?;
        let mut states = Tensor::f_cat(&[class_state, patches], 1)?;
        let mut normed = self.first_norm.forward(&states)?;
        for layer in &self.layers {
            normed = layer.forward(&mut states, normed, &self.attention)?;
        }
        Ok(normed)
    }

    /// Encodes an empty pass of each size of [`prepared_sizes`], so that no batch waits for the
    /// preparation. A size that does not fit the memory is left out.
    ///
    /// # Errors
    /// [`ModelError::Fatal`], or any other error but lack of memory of a single image.
    pub(crate) fn prepare(&mut self, side: i64, pass_images: usize) -> Result<(), ModelError> {
        for images in prepared_sizes(pass_images) {
            let with_cudnn = self.attention.use_cudnn_for(images);
            let mut prepared = self.encode_empty(images, side);
            if let (Err(ModelError::Torch(error)), true) = (&prepared, with_cudnn) {
                tracing::warn!(%error, images, "cuDNN attention not available; images are slower");
                self.attention.stop_cudnn();
                prepared = self.encode_empty(images, side);
            }
            match prepared {
                Ok(()) => {}
                Err(error @ ModelError::Fatal(_)) => return Err(error),
                Err(error @ ModelError::Torch(_)) if images == 1 => return Err(error),
                Err(error) => {
                    self.attention.leave_out(images);
                    tracing::warn!(%error, images, "pass of the vision encoder not prepared");
                }
            }
        }
        Ok(())
    }

    fn encode_empty(&self, images: i64, side: i64) -> Result<(), ModelError> {
        return_torch_panics(|| {
            let pixels = Tensor::f_zeros([images, side, side, 3], (Kind::Uint8, self.positions.device()))?;
            Ok(self.forward(&pixels).map(drop)?)
        })
    }

    /// Returns normalized pixels, one row for each patch: `[images, patches, 3 * patch * patch]`.
    ///
    /// A row is in the order of the convolution: channel, y, x.
    fn patches(&self, pixels: &Tensor, images: i64) -> Result<Tensor, TchError> {
        let (grid, patch) = (self.grid, self.patch_size);
        let mut normal = pixels.f_to_kind(Kind::Float)?;
        let normal = normal.f_mul_(&self.scale)?.f_add_(&self.offset)?.f_to_kind(self.kind)?;
        normal.f_view([images, grid, patch, grid, patch, 3])?.f_permute([0, 1, 3, 5, 2, 4])?.f_reshape([
            images,
            grid * grid,
            3 * patch * patch,
        ])
    }
}

/// Loads a norm whose result is the input of products in `dtype`.
fn load_input_norm(
    path: &WeightPath<'_>,
    config: &VisionConfig,
    dtype: PartDtype,
) -> Result<LayerNorm, LoadError> {
    let norm = LayerNorm::load(path, config.hidden_size, config.layer_norm_eps)?;
    Ok(if dtype == PartDtype::Fp8 { norm.with_fp8_norms() } else { norm })
}

/// A layer with the norm that follows it, so that each residual sum and its norm are one step.
#[derive(Debug)]
struct VisionLayer {
    /// Rows of the weight are all queries, all keys, all values, each in head-major order.
    qkv: Dense,
    projection: Dense,
    middle_norm: LayerNorm,
    feed_forward: FeedForward,
    /// The next layer's first norm, or the encoder's last norm.
    next_norm: LayerNorm,
    heads: i64,
}

impl VisionLayer {
    /// Loads `encoder.layers.N.*` except the first norm. `next_norm` is the norm after the layer.
    fn load(
        path: &WeightPath<'_>,
        next_norm: LayerNorm,
        config: &VisionConfig,
        dtype: PartDtype,
    ) -> Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let dense = |name: &str, inputs: i64, outputs: i64| -> Result<Dense, LoadError> {
            let linear = Linear::load(&path.at(name), inputs, outputs)?;
            Ok(match dtype {
                // `LoadOptions::check` allows bf16 and int8 only with the native vision encoder.
                PartDtype::AsModel | PartDtype::Bf16 | PartDtype::Int8 => {
                    Dense::new(linear, path.kernels(), path.cuda_gelu())?
                }
                PartDtype::Fp8 => {
                    let kernels = path.fused_kernels().and_then(FusedKernels::fp8);
                    Dense::Fp8(Fp8Linear::new(&linear, kernels)?)
                }
            })
        };
        Ok(Self {
            qkv: dense("self_attn.qkv", hidden, 3 * hidden)?,
            projection: dense("self_attn.projection", hidden, hidden)?,
            middle_norm: load_input_norm(&path.at("layer_norm2"), config, dtype)?,
            feed_forward: FeedForward {
                up: dense("mlp.fc1", hidden, inner)?,
                down: dense("mlp.fc2", inner, hidden)?,
            },
            next_norm,
            heads: config.num_attention_heads,
        })
    }

    /// Adds both sublayers to `states` `[images, tokens, hidden]`, whose norm is `normed`.
    ///
    /// Returns the norm of the new states.
    fn forward(
        &self,
        states: &mut Tensor,
        normed: Tensor,
        attention: &VisionAttention,
    ) -> Result<Tensor, TchError> {
        let normed = self.middle_norm.add_then_norm(states, &self.attend(normed, attention)?)?;
        self.next_norm.add_then_norm(states, &self.feed_forward.forward(&normed)?)
    }

    /// Returns the output of self-attention, `[images, tokens, hidden]`.
    fn attend(&self, normed: Tensor, attention: &VisionAttention) -> Result<Tensor, TchError> {
        let (images, tokens, hidden) = normed.size3()?;
        let qkv = self.qkv.forward(&normed)?;
        // Releases the memory before the next allocations.
        drop(normed);
        let qkv =
            qkv.f_view([images, tokens, 3, self.heads, hidden / self.heads])?.f_permute([2, 0, 3, 1, 4])?;
        let context = attention.attend(&qkv.f_select(0, 0)?, &qkv.f_select(0, 1)?, &qkv.f_select(0, 2)?)?;
        self.projection.forward(&merge_heads(&context)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{
        Checkpoint,
        tests::golden_files::{Golden, golden},
    };

    fn load(checkpoint: &Checkpoint, dtype: PartDtype) -> Result<VisionEncoder, LoadError> {
        let root = WeightPath::root(checkpoint.weights(), Device::Cpu, Kind::Float);
        let (scale, offset) = checkpoint.preprocessor().normalisation();
        VisionEncoder::load(&root, &checkpoint.config().vision, scale, offset, Kind::Float, dtype)
    }

    /// Returns pixels `[3, side, side, 3]` of noise.
    fn noise(golden: &Golden) -> Tensor {
        let side = golden.checkpoint.config().vision.image_size;
        Tensor::randint(256, [3, side, side, 3], (Kind::Uint8, Device::Cpu))
    }

    #[test]
    fn features_in_fp8_have_the_direction_of_f32() {
        let golden = golden("untied_head");
        let pixels = noise(&golden);
        let features =
            |dtype, pixels: &Tensor| load(&golden.checkpoint, dtype).unwrap().forward(pixels).unwrap();
        let (exact, rounded) = (features(PartDtype::AsModel, &pixels), features(PartDtype::Fp8, &pixels));
        let cosine = Tensor::cosine_similarity(&exact, &rounded, -1, 1e-12);
        let smallest = cosine.min().double_value(&[]);
        assert!((0.95..0.99999).contains(&smallest), "{smallest}");
        // Other images do not change the features of an image. The order of LibTorch's sums depends
        // on the number of images.
        let others = noise(&golden);
        others.narrow(0, 1, 1).copy_(&pixels.narrow(0, 1, 1));
        assert_eq!(features(PartDtype::Fp8, &others).narrow(0, 1, 1), rounded.narrow(0, 1, 1));
    }

    #[test]
    fn sizes_that_fp8_cannot_multiply_are_named() {
        let golden = golden("class_defaults");
        let message = load(&golden.checkpoint, PartDtype::Fp8).unwrap_err().to_string();
        assert!(message.ends_with("expected multiples of 16"), "{message}");
    }
}
