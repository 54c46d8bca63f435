//! Attention to images, by keys and values or by features.

use cpu_kernels::{AlignedNumbers, CpuLinear, Epilogue, Heads, MatrixRows, NumberFormat};

use crate::parallel::{
    ParallelKernels,
    columns::Columns,
    scratch::{Buffer, Scratch},
};

/// Queries, counted once for each head, that attend to an image's features together. The features
/// are then read once for all.
const GROUP_QUERIES: usize = 32;

/// Queries about an image.
#[derive(Debug)]
pub(crate) struct ImageAttention<'a> {
    /// `[queries, heads * head dim]`.
    pub(crate) queries: &'a [f32],
    pub(crate) image: AttendedImage<'a>,
    /// Where the context of the queries goes, `[queries, heads * head dim]`.
    pub(crate) context: &'a mut [f32],
}

/// What queries about an image read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AttendedImage<'a> {
    /// Packed keys and values of all heads, see [`ParallelKernels::project`].
    KeyValues(&'a [f32]),
    /// Features, with the projections of all heads.
    Features(&'a PackedFeatures, &'a [AbsorbedHead]),
}

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
    numbers: AlignedNumbers,
    tokens: usize,
    /// The features as one head.
    head: Heads,
}

impl PackedFeatures {
    /// Packs `features` `[tokens, width]` for attention in `format`.
    fn new(features: &[f32], width: usize, format: NumberFormat) -> Self {
        let (head, tokens) = (Heads::new(1, width).with_format(format), features.len() / width);
        let mut numbers = AlignedNumbers::default();
        let rows = MatrixRows::new(features, width);
        head.pack(rows, rows, tokens, numbers.take(head.packed_len(tokens)));
        Self { numbers, tokens, head }
    }
}

/// Adjacent heads of the queries about an image.
#[derive(Debug)]
struct HeadGroup<'a> {
    queries: &'a [f32],
    image: AttendedImage<'a>,
    first: usize,
    /// Where the context goes, `[heads of the group, queries, head dim]`.
    context: &'a mut [f32],
}

impl ParallelKernels {
    /// Packs the features `[tokens, width]` of an image.
    pub(crate) fn pack_features(&self, features: &[f32], width: usize) -> PackedFeatures {
        PackedFeatures::new(features, width, self.number_format)
    }

    /// Computes the attention of queries to their images, which have `tokens` tokens each.
    pub(crate) fn attend_images<'a>(
        &self,
        heads: Heads,
        tokens: usize,
        images: impl Iterator<Item = ImageAttention<'a>>,
    ) {
        let heads = heads.with_format(self.number_format);
        let mut images: Vec<ImageAttention<'a>> = images.filter(|image| !image.queries.is_empty()).collect();
        if self.workers.threads() == 1 {
            // Heads together write whole rows of the context.
            images.retain_mut(|ImageAttention { queries, image, context }| {
                let AttendedImage::KeyValues(packed) = *image else { return true };
                let queries = MatrixRows::new(queries, heads.width());
                self.scratch.with(|scratch| {
                    heads.attend(queries, packed, tokens, context, &mut scratch.scores);
                });
                false
            });
        }
        if !images.is_empty() {
            self.contexts.with(|memory| self.attend_by_heads(heads, tokens, &mut images, memory));
        }
    }

    /// Computes the context of groups of heads, each into its own part of `memory`, and then their
    /// places in the context of each image.
    fn attend_by_heads(
        &self,
        heads: Heads,
        tokens: usize,
        images: &mut [ImageAttention<'_>],
        memory: &mut Buffer,
    ) {
        let (width, head_dim) = (heads.width(), heads.width() / heads.count());
        let mut rest = memory.take(images.iter().map(|image| image.queries.len()).sum());
        let mut groups = Vec::new();
        for &ImageAttention { queries, image, .. } in &*images {
            let of_head = queries.len() / heads.count();
            let heads_of_group = match image {
                AttendedImage::KeyValues(_) => 1,
                AttendedImage::Features(..) => {
                    (GROUP_QUERIES * head_dim / of_head.max(1)).clamp(1, heads.count())
                }
            };
            for first in (0..heads.count()).step_by(heads_of_group) {
                let count = heads_of_group.min(heads.count() - first);
                let (context, others) = rest.split_at_mut(count * of_head);
                rest = others;
                groups.push(HeadGroup { queries, image, first, context });
            }
        }
        self.workers.each(groups.iter_mut(), |group| {
            self.scratch.with(|scratch| group.attend(heads, tokens, scratch));
        });
        let mut of_heads =
            groups.iter().flat_map(|group| group.context.chunks_exact(group.queries.len() / heads.count()));
        for ImageAttention { context, .. } in images {
            for (first, head) in (0..width).step_by(head_dim).zip(&mut of_heads) {
                Columns { first, count: head_dim, width }.write(head, context);
            }
        }
    }
}

impl HeadGroup<'_> {
    /// Computes the context of the group.
    fn attend(&mut self, heads: Heads, tokens: usize, scratch: &mut Scratch) {
        let (width, head_dim, one) = (heads.width(), heads.width() / heads.count(), heads.one());
        match self.image {
            AttendedImage::KeyValues(packed) => {
                let queries = MatrixRows::new(self.queries, width);
                let packed = packed.chunks_exact(one.packed_len(tokens)).nth(self.first).unwrap_or_default();
                let queries = queries.skip_columns(self.first * head_dim);
                one.attend(queries, packed, tokens, self.context, &mut scratch.scores);
            }
            AttendedImage::Features(features, projections) => {
                let projections = projections.get(self.first..).unwrap_or_default();
                self.attend_features(heads, features, projections, scratch);
            }
        }
    }

    /// Computes the context from features. `projections` are those of the group's heads.
    fn attend_features(
        &mut self,
        heads: Heads,
        features: &PackedFeatures,
        projections: &[AbsorbedHead],
        scratch: &mut Scratch,
    ) {
        let Scratch { queries: one_head, packed: absorbed, context, scores, .. } = scratch;
        let (width, head_dim) = (heads.width(), heads.width() / heads.count());
        let of_head = self.queries.len() / heads.count();
        let of_absorbed = of_head / head_dim * features.head.width();
        let absorbed = absorbed.take(self.context.len() / of_head.max(1) * of_absorbed);
        let columns = (self.first * head_dim..).step_by(head_dim);
        for ((head, first), absorbed) in
            projections.iter().zip(columns).zip(absorbed.chunks_exact_mut(of_absorbed.max(1)))
        {
            let one_head = one_head.take(of_head);
            Columns { first, count: head_dim, width }.read(self.queries, one_head);
            head.key.forward(one_head, absorbed, Epilogue::Store);
        }
        let context = context.take(absorbed.len());
        let absorbed = MatrixRows::new(absorbed, features.head.width());
        features.head.attend(absorbed, features.numbers.as_slice(), features.tokens, context, scores);
        let results =
            context.chunks_exact(of_absorbed.max(1)).zip(self.context.chunks_exact_mut(of_head.max(1)));
        for (head, (context, out)) in projections.iter().zip(results) {
            head.value.forward(context, out, Epilogue::Store);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| (((index + seed) * 7_919) % 1_009) as f32 / 504.0 - 1.0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn attention_of_divided_heads_is_bit_identical(
            queries in prop::collection::vec(0usize..20, 1..4),
            heads in 1usize..4,
            tokens in 1usize..90,
            format in prop::sample::select(vec![NumberFormat::F32, NumberFormat::Bf16]),
        ) {
            let heads = Heads::new(heads, 16).with_format(format);
            let width = heads.width();
            let images = queries.iter().enumerate().map(|(seed, &queries)| {
                let key_values = numbers(2 * tokens * width, seed);
                let keys = MatrixRows::new(&key_values, 2 * width);
                let mut packed = vec![0.0; heads.packed_len(tokens)];
                heads.pack(keys, keys.skip_columns(width), tokens, &mut packed);
                (numbers(queries * width, seed + 7), packed)
            });
            let images: Vec<(Vec<f32>, Vec<f32>)> = images.collect();
            let [together, divided] = [1, 3].map(|threads| {
                let mut contexts: Vec<Vec<f32>> =
                    images.iter().map(|(queries, _)| vec![0.0; queries.len()]).collect();
                let kernels = ParallelKernels::new(threads, format).unwrap();
                let attentions = images.iter().zip(&mut contexts).map(|((queries, packed), context)| {
                    ImageAttention { queries, image: AttendedImage::KeyValues(packed), context }
                });
                kernels.attend_images(heads, tokens, attentions);
                contexts
            });
            prop_assert!(together.iter().flatten().all(|number| number.is_finite()));
            prop_assert_eq!(together, divided);
        }
    }
}
