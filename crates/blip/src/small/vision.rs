//! The image encoder (`vision.rs` on slices).

use std::cell::RefCell;

use cpu_kernels::{After, Heads, LayerNorm, Linear, Rows};

use super::{
    buffer::{Buffer, Buffers},
    load::{copied, linear, load_linear, load_norm, size},
};
use crate::{
    config::VisionConfig, error::LoadError, layers, position_embeddings, preprocess::Pixels, weights::Scope,
};

/// Pixels in, one state for each patch and one for the class token out.
#[derive(Debug)]
pub(crate) struct SmallVision {
    patch: Linear,
    /// `[hidden]`: the class embedding with its position's embedding added.
    class_state: Vec<f32>,
    /// `[patches, hidden]`.
    positions: Vec<f32>,
    layers: Vec<Layer>,
    post_norm: LayerNorm,
    heads: Heads,
    grid: usize,
    patch_size: usize,
    /// For each channel, what each of a pixel's 256 numbers is to the model.
    normal: [Vec<f32>; 3],
    memory: RefCell<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// `[images, tokens, hidden]`.
    states: Buffer,
    /// `[patches, 3 * patch * patch]` of one image.
    patches: Buffer,
    layers: Buffers,
}

impl SmallVision {
    /// Loads `vision_model.*`. `scale` and `offset` normalise 8-bit pixels, per channel.
    pub(crate) fn load(
        root: &Scope<'_>,
        config: &VisionConfig,
        scale: [f32; 3],
        offset: [f32; 3],
    ) -> Result<Self, LoadError> {
        let scope = root.at("vision_model");
        let (hidden, patch_size, heads) = (config.hidden_size, config.patch_size, config.num_attention_heads);
        let embeddings = scope.at("embeddings");
        let convolution = embeddings.at("patch_embedding");
        let patch = layers::Linear {
            weight: convolution
                .tensor("weight", &[hidden, 3, patch_size, patch_size])?
                .f_reshape([hidden, 3 * patch_size * patch_size])?,
            bias: convolution.tensor("bias", &[hidden])?,
        };
        let mut class_state = copied(&embeddings.tensor("class_embedding", &[1, 1, hidden])?)?;
        let mut positions = copied(&position_embeddings::load(&embeddings, config)?)?;
        let patch_positions = positions.split_off(size(hidden).min(positions.len()));
        class_state.iter_mut().zip(&positions).for_each(|(state, position)| *state += position);
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&scope.at(format_args!("encoder.layers.{index}")), config))
            .collect::<Result<_, _>>()?;
        let [red, green, blue] = scale;
        let [red_offset, green_offset, blue_offset] = offset;
        Ok(Self {
            patch: linear(&patch)?,
            class_state,
            positions: patch_positions,
            layers,
            post_norm: load_norm(&scope.at("post_layernorm"), hidden, config.layer_norm_eps)?,
            heads: Heads::new(size(heads), size(hidden / heads)),
            grid: size(config.grid()),
            patch_size: size(patch_size),
            normal: [(red, red_offset), (green, green_offset), (blue, blue_offset)].map(|(scale, offset)| {
                (0..=u8::MAX).map(|number| f32::from(number) * scale + offset).collect()
            }),
            memory: RefCell::default(),
        })
    }

    /// Encodes `images`, all of the model's size, and hands `[images, tokens, hidden]` to `take`.
    pub(crate) fn forward<T>(&self, images: &[&Pixels], take: impl FnOnce(&[f32]) -> T) -> T {
        let Memory { states, patches, layers: buffers } = &mut *self.memory.borrow_mut();
        let hidden = self.heads.width();
        let of_image = hidden + self.positions.len();
        let states = states.take(images.len() * of_image);
        for (image, states) in images.iter().zip(states.chunks_exact_mut(of_image)) {
            let patches = patches.take(self.grid * self.grid * self.patch.inputs());
            self.cut(image.data(), patches);
            let (class_state, of_patches) = states.split_at_mut(hidden);
            class_state.copy_from_slice(&self.class_state);
            of_patches.copy_from_slice(&self.positions);
            self.patch.forward(patches, of_patches, After::Add);
        }
        for layer in &self.layers {
            layer.forward(states, of_image, self.heads, buffers);
        }
        self.post_norm.forward_in_place(states);
        take(states)
    }

    /// Normalised pixels of `[height, width, 3]`, one row a patch in the convolution's order (channel, y, x).
    fn cut(&self, pixels: &[u8], patches: &mut [f32]) {
        let (grid, side) = (self.grid, self.patch_size);
        let plane = side * side;
        let mut patches = patches.chunks_exact_mut(3 * plane);
        for band in pixels.chunks_exact(3 * side * side * grid) {
            for (column, patch) in patches.by_ref().take(grid).enumerate() {
                for ((channel, normal), plane) in
                    self.normal.iter().enumerate().zip(patch.chunks_exact_mut(plane))
                {
                    let lines = band.chunks_exact(3 * side * grid);
                    for (line, out) in lines.zip(plane.chunks_exact_mut(side)) {
                        let line = line.get(3 * side * column..).unwrap_or_default().as_chunks::<3>().0;
                        for (pixel, out) in line.iter().zip(out) {
                            let number = pixel.get(channel).copied().unwrap_or(0);
                            *out = normal.get(usize::from(number)).copied().unwrap_or(0.0);
                        }
                    }
                }
            }
        }
    }
}

/// A pre-norm layer.
#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    /// All queries, all keys, all values, head-major inside each.
    qkv: Linear,
    projection: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Layer {
    fn load(scope: &Scope<'_>, config: &VisionConfig) -> Result<Self, LoadError> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        Ok(Self {
            norm1: load_norm(&scope.at("layer_norm1"), hidden, eps)?,
            qkv: load_linear(&scope.at("self_attn.qkv"), hidden, 3 * hidden)?,
            projection: load_linear(&scope.at("self_attn.projection"), hidden, hidden)?,
            norm2: load_norm(&scope.at("layer_norm2"), hidden, eps)?,
            up: load_linear(&scope.at("mlp.fc1"), hidden, inner)?,
            down: load_linear(&scope.at("mlp.fc2"), inner, hidden)?,
        })
    }

    /// `states` `[images, tokens, hidden]`, `of_image` numbers of which belong to an image.
    fn forward(&self, states: &mut [f32], of_image: usize, heads: Heads, buffers: &mut Buffers) {
        let Buffers { normed, wide, context, packed, scores } = buffers;
        let hidden = heads.width();
        let (rows, tokens) = (states.len() / hidden, of_image / hidden);
        let normed = normed.take(states.len());
        self.norm1.forward(states, normed);
        let qkv = wide.take(3 * states.len());
        self.qkv.forward(normed, qkv, After::Nothing);
        let context = context.take(states.len());
        for (qkv, context) in qkv.chunks_exact(3 * of_image).zip(context.chunks_exact_mut(of_image)) {
            let qkv = Rows { numbers: qkv, stride: 3 * hidden };
            let packed = packed.take(heads.packed_len(tokens));
            heads.pack(qkv.from(hidden), qkv.from(2 * hidden), tokens, packed);
            heads.attend(qkv, packed, tokens, context, scores);
        }
        self.projection.forward(context, states, After::Add);
        self.norm2.forward(states, normed);
        let inner = wide.take(rows * self.up.outputs());
        self.up.forward(normed, inner, After::Gelu);
        self.down.forward(inner, states, After::Add);
    }
}
