//! The vision encoder on slices.
//!
//! Its rows are the tokens of all images. They are cut into runs. A run passes through as much of a
//! layer as depends on no other run. Therefore threads synchronize only twice in each layer.

use std::{cell::RefCell, ops::Range, sync::Arc};

use cpu_kernels::{CpuLayerNorm, CpuLinear, Epilogue, Heads, NumberFormat};

use crate::{
    checkpoint::config::vision::VisionConfig,
    cpu::{
        buffer_pool::{Buffer, Buffers},
        load::{load_linear, load_norm, size},
    },
    error::LoadError,
    layers::{
        linear::Linear,
        native_linear::{copied, packed},
        position_embeddings,
        weight_path::WeightPath,
    },
    parallel::{scratch::ScratchPool, worker_pool::WorkerPool},
    preprocess::Pixels,
};

/// Largest number of rows in a run. Each run reads all weights.
///
/// Time of one thread for the feed-forward layers of 577 rows at the released size:
///
/// - 307 ms in runs of 96 rows,
/// - 284 ms in runs of 288 rows,
/// - 272 ms in one run.
const MAX_RUN_ROWS: usize = 300;

/// Approximate number of patches that are embedded together.
const BAND_PATCHES: usize = 96;

/// The vision encoder. It returns a state for each patch and one for the class token.
#[derive(Debug)]
pub(crate) struct CpuVisionEncoder {
    patches: Patches,
    /// `[hidden]`: the class embedding plus the embedding of its position.
    class_state: Vec<f32>,
    /// Position embeddings of the patches, `[patches, hidden]`.
    positions: Vec<f32>,
    layers: Vec<Layer>,
    post_norm: CpuLayerNorm,
    heads: Heads,
    workers: Arc<WorkerPool>,
    buffers: RefCell<EncoderBuffers>,
}

/// Scratch memory of the encoder.
#[derive(Debug, Default)]
struct EncoderBuffers {
    /// `[images, tokens, hidden]`.
    states: Buffer,
    /// All queries, keys and values of a layer, `[images, tokens, 3 * hidden]` in the format that
    /// attention reads.
    qkv: Buffer,
    /// Keys and values of each image, head by head, in the layout that attention reads.
    packed: Buffer,
    run_buffers: ScratchPool<Buffers>,
}

impl CpuVisionEncoder {
    /// Loads `vision_model.*`.
    ///
    /// `scale` and `offset` normalize 8-bit pixels for each channel. `format` is the number format
    /// of the products. `workers` are the compute threads.
    pub(crate) fn load(
        root: &WeightPath<'_>,
        config: &VisionConfig,
        scale: [f32; 3],
        offset: [f32; 3],
        format: NumberFormat,
        workers: Arc<WorkerPool>,
    ) -> Result<Self, LoadError> {
        let path = root.at("vision_model");
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let embeddings = path.at("embeddings");
        let mut class_state = copied(&embeddings.tensor("class_embedding", &[1, 1, hidden])?)?;
        let mut positions = copied(&position_embeddings::load(&embeddings, config)?)?;
        let patch_positions = positions.split_off(size(hidden).min(positions.len()));
        class_state.iter_mut().zip(&positions).for_each(|(state, position)| *state += position);
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&path.at(format_args!("encoder.layers.{index}")), config, format))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            patches: Patches::load(&embeddings, config, scale, offset, format)?,
            class_state,
            positions: patch_positions,
            layers,
            post_norm: load_norm(&path.at("post_layernorm"), hidden, config.layer_norm_eps)?,
            heads: Heads::new(size(heads), size(hidden / heads)).with_format(format),
            workers,
            buffers: RefCell::default(),
        })
    }

    /// Encodes `images`, all of the model's size. `take` receives the features `[images, tokens,
    /// hidden]`.
    pub(crate) fn forward<T>(&self, images: &[&Pixels], take: impl FnOnce(&[f32]) -> T) -> T {
        let EncoderBuffers { states, qkv, packed, run_buffers } = &mut *self.buffers.borrow_mut();
        let Self { layers, post_norm, heads, workers, .. } = self;
        let hidden = heads.width();
        let of_image = hidden + self.positions.len();
        let tokens = of_image / hidden;
        let states = states.take(images.len() * of_image);
        let qkv_row = heads.row_len(3 * hidden);
        let qkv = qkv.take(images.len() * tokens * qkv_row);
        self.embed(images, states, run_buffers);

        let rows = run_length(images.len() * tokens, workers.threads());
        if let Some(first) = layers.first() {
            workers.each(runs(states, rows, hidden).zip(qkv.chunks_mut(rows * qkv_row)), |(run, qkv)| {
                run_buffers.with(|buffers| first.begin(*heads, run.states, qkv, buffers));
            });
        }
        let one_head = heads.one();
        let of_head = one_head.packed_len(tokens);
        let of_packed = of_head * heads.count();
        let packed = packed.take(images.len() * of_packed);
        for (number, layer) in layers.iter().enumerate() {
            let heads_of_images =
                packed.chunks_exact_mut(of_packed).zip(qkv.chunks_exact(tokens * qkv_row)).flat_map(
                    |(packed, qkv)| packed.chunks_exact_mut(of_head).enumerate().map(move |head| (head, qkv)),
                );
            workers.each(heads_of_images, |((head, packed), qkv)| {
                let keys = heads.rows(qkv, 3 * hidden).skip_columns(hidden + head * one_head.width());
                one_head.pack(keys, keys.skip_columns(hidden), tokens, packed);
            });
            let packed = Packed { numbers: packed, of_image: of_packed, tokens };
            let next = layers.get(number + 1);
            workers.each(runs(states, rows, hidden).zip(qkv.chunks_mut(rows * qkv_row)), |(mut run, qkv)| {
                run_buffers.with(|buffers| {
                    layer.finish(&mut run, qkv, packed, *heads, buffers);
                    match next {
                        Some(next) => next.begin(*heads, run.states, qkv, buffers),
                        None => post_norm.forward_in_place(run.states),
                    }
                });
            });
        }
        take(states)
    }

    /// Computes the input of the first layer, `[images, tokens, hidden]`.
    fn embed(&self, images: &[&Pixels], states: &mut [f32], run_buffers: &ScratchPool<Buffers>) {
        let Self { patches, class_state, positions, workers, .. } = self;
        let hidden = self.heads.width();
        let of_image = hidden + positions.len();
        let band = patches.grid * BAND_PATCHES.div_ceil(patches.grid);
        let bands = images.iter().zip(states.chunks_exact_mut(of_image)).flat_map(|(image, states)| {
            let (first, states) = states.split_at_mut(hidden);
            first.copy_from_slice(class_state);
            let pixels = image.data().chunks(band * patches.bytes());
            pixels.zip(states.chunks_mut(band * hidden)).zip(positions.chunks(band * hidden))
        });
        workers.each(bands, |((pixels, states), positions)| {
            states.copy_from_slice(positions);
            run_buffers.with(|buffers| patches.add(pixels, states, &mut buffers.patches));
        });
    }
}

/// Returns the number of rows in a run, for `rows` rows and `threads` threads.
///
/// Every thread has as many runs, all of nearly equal length.
fn run_length(rows: usize, threads: usize) -> usize {
    let runs = rows.div_ceil(MAX_RUN_ROWS).next_multiple_of(threads);
    rows.div_ceil(runs.max(1)).max(1)
}

/// Rows that pass through a layer together.
#[derive(Debug)]
struct Run<'a> {
    /// `[rows, hidden]`.
    states: &'a mut [f32],
    /// Index of the first row among the rows of all images.
    first: usize,
}

/// Cuts `[all rows, hidden]` into runs of `rows` rows.
fn runs(states: &mut [f32], rows: usize, hidden: usize) -> impl Iterator<Item = Run<'_>> {
    states.chunks_mut(rows * hidden).zip((0..).step_by(rows)).map(|(states, first)| Run { states, first })
}

/// Keys and values of all images.
#[derive(Debug, Clone, Copy)]
struct Packed<'a> {
    numbers: &'a [f32],
    /// Numbers of one image.
    of_image: usize,
    tokens: usize,
}

/// Cuts images into patches and embeds them.
#[derive(Debug)]
struct Patches {
    product: CpuLinear,
    /// Patches in a row of the image.
    grid: usize,
    /// Pixels in a row of a patch.
    side: usize,
    /// The normalized value of each of the 256 pixel values, for each channel.
    normal: [Vec<f32>; 3],
}

impl Patches {
    /// Loads `patch_embedding.*` and computes the normalized pixel values.
    ///
    /// Pixels have too few values to be rounded to int8 again. Their product is in bf16 then.
    fn load(
        embeddings: &WeightPath<'_>,
        config: &VisionConfig,
        scale: [f32; 3],
        offset: [f32; 3],
        format: NumberFormat,
    ) -> Result<Self, LoadError> {
        let (hidden, side) = (config.hidden_size, config.patch_size);
        let product = Linear::load_patches(&embeddings.at("patch_embedding"), side, hidden)?;
        let format = if format == NumberFormat::Int8 { NumberFormat::Bf16 } else { format };
        let [red, green, blue] = scale;
        let [red_offset, green_offset, blue_offset] = offset;
        Ok(Self {
            product: packed(&product, format)?,
            grid: size(config.grid()),
            side: size(side),
            normal: [(red, red_offset), (green, green_offset), (blue, blue_offset)].map(|(scale, offset)| {
                (0..=u8::MAX).map(|number| f32::from(number) * scale + offset).collect()
            }),
        })
    }

    /// Returns the bytes of a patch.
    fn bytes(&self) -> usize {
        3 * self.side * self.side
    }

    /// Adds the products of patches to their `states` `[patches, hidden]`. `pixels` are whole rows
    /// of patches.
    fn add(&self, pixels: &[u8], states: &mut [f32], buffer: &mut Buffer) {
        let patches = buffer.take(pixels.len());
        self.cut(pixels, patches);
        self.product.forward(patches, states, Epilogue::Add);
    }

    /// Normalizes `pixels` `[height, width, 3]` and writes one row for each patch.
    ///
    /// A row is in the order of the convolution: channel, y, x.
    fn cut(&self, pixels: &[u8], patches: &mut [f32]) {
        let (grid, side) = (self.grid, self.side);
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
    norm1: CpuLayerNorm,
    /// All queries, all keys, all values, each in head-major order.
    qkv: CpuLinear,
    projection: CpuLinear,
    norm2: CpuLayerNorm,
    up: CpuLinear,
    down: CpuLinear,
}

impl Layer {
    /// Loads `encoder.layers.N.*`. `format` is the number format of the products.
    fn load(path: &WeightPath<'_>, config: &VisionConfig, format: NumberFormat) -> Result<Self, LoadError> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let product = |name, inputs, outputs| load_linear(&path.at(name), inputs, outputs, format);
        Ok(Self {
            norm1: load_norm(&path.at("layer_norm1"), hidden, eps)?,
            qkv: product("self_attn.qkv", hidden, 3 * hidden)?,
            projection: product("self_attn.projection", hidden, hidden)?,
            norm2: load_norm(&path.at("layer_norm2"), hidden, eps)?,
            up: product("mlp.fc1", hidden, inner)?,
            down: product("mlp.fc2", inner, hidden)?,
        })
    }

    /// Computes queries, keys and values of a run: `qkv` `[rows, 3 * hidden]` in the format of
    /// `heads`, from `states` `[rows, hidden]`.
    fn begin(&self, heads: Heads, states: &[f32], qkv: &mut [f32], buffers: &mut Buffers) {
        self.qkv.norm_input(&self.norm1, states, &mut buffers.normed);
        heads.project(&self.qkv, &buffers.normed, qkv);
    }

    /// Computes the rest of the layer for a run whose queries are in `qkv`.
    fn finish(
        &self,
        run: &mut Run<'_>,
        qkv: &[f32],
        packed: Packed<'_>,
        heads: Heads,
        buffers: &mut Buffers,
    ) {
        let Buffers { normed, inner, context, scores, .. } = buffers;
        let (hidden, Packed { numbers, of_image, tokens }) = (heads.width(), packed);
        let context = context.take(run.states.len());
        let rows = run.states.len() / hidden;
        for (image, rows) in images_of(run.first..run.first + rows, tokens) {
            let first = rows.start - run.first;
            let packed = numbers.get(image * of_image..(image + 1) * of_image).unwrap_or_default();
            let context = context.get_mut(first * hidden..(first + rows.len()) * hidden).unwrap_or_default();
            let queries = heads.rows(qkv, 3 * hidden).skip_rows(first);
            heads.attend(queries, packed, tokens, context, scores);
        }
        self.projection.forward(context, run.states, Epilogue::Add);
        self.up.norm_input(&self.norm2, run.states, normed);
        self.up.forward_gelu(normed, &self.down, inner);
        self.down.forward_input(inner, run.states, Epilogue::Add);
    }
}

/// Returns the images of `rows` with the rows of each. An image has `tokens` rows.
fn images_of(rows: Range<usize>, tokens: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (rows.start / tokens..rows.end.div_ceil(tokens))
        .map(move |image| (image, rows.start.max(image * tokens)..rows.end.min((image + 1) * tokens)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_row_is_in_one_run_and_one_image(images in 1usize..5, tokens in 1usize..700, threads in 1usize..9) {
            let mut states: Vec<f32> = vec![0.0; images * tokens];
            let length = run_length(images * tokens, threads);
            prop_assert!(length <= MAX_RUN_ROWS);
            prop_assert!(states.len().div_ceil(length) <= states.len().div_ceil(MAX_RUN_ROWS) + threads);
            for run in runs(&mut states, length, 1) {
                for (image, rows) in images_of(run.first..run.first + run.states.len(), tokens) {
                    prop_assert!(!rows.is_empty());
                    for row in rows {
                        prop_assert_eq!(row / tokens, image);
                        run.states[row - run.first] += 1.0;
                    }
                }
            }
            prop_assert!(states.iter().all(|&times| times == 1.0));
        }
    }
}
