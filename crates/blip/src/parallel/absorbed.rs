//! Attention of few queries to many tokens, without keys and values.

use cpu_kernels::{CpuLinear, Epilogue, Heads, MatrixRows, NumberFormat};

use crate::parallel::{ParallelKernels, scratch::Scratch};

/// The projections of one head, with the factor of the scores.
#[derive(Debug)]
pub(crate) struct AbsorbedHead {
    /// From queries `[head dim]` to the width of the features.
    pub(crate) key: CpuLinear,
    /// From features to values `[head dim]`.
    pub(crate) value: CpuLinear,
}

/// Features `[tokens, width]` of an image in the layout that attention reads, as keys and values.
#[derive(Debug)]
pub(crate) struct PackedFeatures {
    numbers: Vec<f32>,
    tokens: usize,
    width: usize,
}

impl PackedFeatures {
    /// Packs `features` `[tokens, width]` for attention in `format`.
    pub(crate) fn new(features: &[f32], width: usize, format: NumberFormat) -> Self {
        let (one, tokens) = (Heads::new(1, width).with_format(format), features.len() / width);
        let mut numbers = vec![0.0; one.packed_len(tokens)];
        let rows = MatrixRows { data: features, stride: width };
        one.pack(rows, rows, tokens, &mut numbers);
        Self { numbers, tokens, width }
    }
}

impl ParallelKernels {
    /// Packs the features `[images, tokens, width]` of images of `tokens` tokens.
    pub(crate) fn pack_features(&self, features: &[f32], tokens: usize, width: usize) -> Vec<PackedFeatures> {
        let images = features.chunks_exact(tokens * width);
        let mut packed: Vec<Option<PackedFeatures>> = images.clone().map(|_| None).collect();
        self.workers.each(packed.iter_mut().zip(images), |(packed, features)| {
            *packed = Some(PackedFeatures::new(features, width, self.number_format));
        });
        packed.into_iter().flatten().collect()
    }

    /// Computes the context of `queries` `[images, queries, heads * head dim]` for each image and
    /// head, to `out` `[images, heads, queries, head dim]`.
    pub(crate) fn attend_absorbed(
        &self,
        heads: &[AbsorbedHead],
        queries: &[f32],
        images: &[PackedFeatures],
        out: &mut [f32],
    ) {
        let head_dim = heads.first().map_or(1, |head| head.key.inputs());
        let width = heads.len() * head_dim;
        let of_image = queries.len() / images.len().max(1);
        let tasks = images.iter().zip(queries.chunks_exact(of_image.max(1))).flat_map(|image| {
            heads.iter().enumerate().map(move |(number, head)| (image, (number * head_dim, head)))
        });
        let tasks = tasks.zip(out.chunks_exact_mut((of_image / width * head_dim).max(1)));
        self.workers.each(tasks, |(((image, queries), (first_column, head)), out)| {
            self.scratch.with(|Scratch { queries: of_head, packed: absorbed, context, scores }| {
                let of_head = of_head.take(out.len());
                let rows = queries.chunks_exact(width).zip(of_head.chunks_exact_mut(head_dim));
                for (row, of_head) in rows {
                    let columns = first_column..first_column + head_dim;
                    of_head.copy_from_slice(row.get(columns).unwrap_or_default());
                }
                let absorbed_len = out.len() / head_dim * image.width;
                let absorbed = absorbed.take(absorbed_len);
                head.key.forward(of_head, absorbed, Epilogue::Store);
                let context = context.take(absorbed_len);
                let absorbed = MatrixRows { data: absorbed, stride: image.width };
                let one = Heads::new(1, image.width).with_format(self.number_format);
                one.attend(absorbed, &image.numbers, image.tokens, context, scores);
                head.value.forward(context, out, Epilogue::Store);
            });
        });
    }
}
