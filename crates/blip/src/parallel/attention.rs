//! Attention of many queries to many tokens.

use cpu_kernels::{Heads, MatrixRows};

use crate::parallel::{ParallelKernels, scratch::Scratch};

/// Queries, and the tokens to which they attend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionInput<'a> {
    /// `[groups, queries, heads * head dim]`.
    pub(crate) queries: &'a [f32],
    /// Keys and values, `[groups, tokens, 2 * heads * head dim]`.
    pub(crate) key_values: &'a [f32],
    /// Tokens of a group.
    pub(crate) tokens: usize,
    /// Queries of a group.
    pub(crate) queries_of_group: usize,
}

impl ParallelKernels {
    /// Computes attention for each group and head, to `out` `[groups, heads, queries, head dim]`.
    pub(crate) fn attend(&self, heads: Heads, input: AttentionInput<'_>, out: &mut [f32]) {
        let AttentionInput { queries, key_values, tokens, queries_of_group } = input;
        let (width, head_dim) = (heads.width(), heads.width() / heads.count());
        let one = heads.one().with_format(self.number_format);
        let groups =
            queries.chunks_exact(queries_of_group * width).zip(key_values.chunks_exact(2 * tokens * width));
        let tasks = groups.flat_map(|group| (0..heads.count()).map(move |head| (group, head * head_dim)));
        let tasks = tasks.zip(out.chunks_exact_mut(queries_of_group * head_dim));
        self.workers.each(tasks, |(((queries, key_values), first_column), out)| {
            self.scratch.with(|Scratch { packed, scores, .. }| {
                let keys = MatrixRows { data: key_values, stride: 2 * width }.skip_columns(first_column);
                let packed = packed.take(one.packed_len(tokens));
                one.pack(keys, keys.skip_columns(width), tokens, packed);
                let queries = MatrixRows { data: queries, stride: width }.skip_columns(first_column);
                one.attend(queries, packed, tokens, out, scores);
            });
        });
    }
}
