//! Attention of few queries to many tokens, without keys and values.

use cpu_kernels::{CpuLinear, Epilogue, Heads, MatrixRows, NumberFormat};

use crate::parallel::{ParallelKernels, scratch::Scratch};

/// Queries that attend to an image's features together, whatever their heads. The features are then
/// read once for all.
const GROUP_QUERIES: usize = 32;

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
        let of_head = of_image / width * head_dim;
        let group = (GROUP_QUERIES * head_dim / of_head.max(1)).clamp(1, heads.len().max(1));
        let tasks = images.iter().zip(queries.chunks_exact(of_image.max(1))).flat_map(|image| {
            let groups = heads.chunks(group).zip((0..).step_by(group * head_dim));
            groups.map(move |heads| (image, heads))
        });
        let mut rest = out;
        let tasks = tasks.map(|((image, queries), (heads, first_column))| {
            let (out, others) = std::mem::take(&mut rest).split_at_mut(heads.len() * of_head);
            rest = others;
            (image, queries, heads, first_column, out)
        });
        self.workers.each(tasks, |(image, queries, heads, first_column, out)| {
            self.scratch.with(|Scratch { queries: one_head, packed: absorbed, context, scores, .. }| {
                let of_absorbed = of_head / head_dim * image.width;
                let absorbed = absorbed.take(heads.len() * of_absorbed);
                let columns = (first_column..).step_by(head_dim);
                for ((head, first), absorbed) in
                    heads.iter().zip(columns).zip(absorbed.chunks_exact_mut(of_absorbed))
                {
                    let one_head = one_head.take(of_head);
                    let rows = queries.chunks_exact(width).zip(one_head.chunks_exact_mut(head_dim));
                    for (row, of_head) in rows {
                        of_head.copy_from_slice(row.get(first..first + head_dim).unwrap_or_default());
                    }
                    head.key.forward(one_head, absorbed, Epilogue::Store);
                }
                let context = context.take(absorbed.len());
                let absorbed = MatrixRows { data: absorbed, stride: image.width };
                let one = Heads::new(1, image.width).with_format(self.number_format);
                one.attend(absorbed, &image.numbers, image.tokens, context, scores);
                let results = context.chunks_exact(of_absorbed).zip(out.chunks_exact_mut(of_head));
                for (head, (context, out)) in heads.iter().zip(results) {
                    head.value.forward(context, out, Epilogue::Store);
                }
            });
        });
    }
}
