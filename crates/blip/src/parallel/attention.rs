//! Attention of many queries to many tokens.

use std::sync::PoisonError;

use cpu_kernels::{CpuLinear, Epilogue, Heads, MatrixRows};

use crate::parallel::{ParallelKernels, scratch::Scratch};

/// Queries, and the tokens to which they attend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionInput<'a> {
    /// `[groups, queries, heads * head dim]`.
    pub(crate) queries: &'a [f32],
    /// Keys and values, `[groups, tokens, 2 * heads * head dim]`, or packed ones, `[groups, packed
    /// length]`.
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

    /// Returns the number of values of packed keys and values of `tokens` tokens.
    pub(crate) fn packed_len(&self, heads: Heads, tokens: usize) -> usize {
        heads.with_format(self.number_format).packed_len(tokens)
    }

    /// Computes the keys and values of `features` `[tokens, inputs]`, and packs them for
    /// [`Self::attend_packed`] to `out` `[packed length]`.
    ///
    /// `key_value` computes all keys, then all values.
    pub(crate) fn project(&self, key_value: &CpuLinear, heads: Heads, features: &[f32], out: &mut [f32]) {
        let tokens = features.len() / key_value.inputs();
        let mut memory = self.key_values.lock().unwrap_or_else(PoisonError::into_inner);
        let key_values = memory.take(tokens * key_value.outputs());
        self.linear(key_value, features, key_values, Epilogue::Store);
        self.pack(heads, key_values, tokens, out);
    }

    /// Packs `key_values` `[groups, tokens, 2 * heads * head dim]` for [`Self::attend_packed`], to
    /// `out` `[groups, packed length]`.
    pub(crate) fn pack(&self, heads: Heads, key_values: &[f32], tokens: usize, out: &mut [f32]) {
        let (width, head_dim) = (heads.width(), heads.width() / heads.count());
        let one = heads.one().with_format(self.number_format);
        let groups = key_values.chunks_exact(2 * tokens * width);
        let tasks = groups.flat_map(|group| (0..heads.count()).map(move |head| (group, head * head_dim)));
        let tasks = tasks.zip(out.chunks_exact_mut(one.packed_len(tokens)));
        self.workers.each(tasks, |((key_values, first_column), packed)| {
            let keys = MatrixRows { data: key_values, stride: 2 * width }.skip_columns(first_column);
            one.pack(keys, keys.skip_columns(width), tokens, packed);
        });
    }

    /// Computes [`Self::attend`] for packed keys and values.
    pub(crate) fn attend_packed(&self, heads: Heads, input: AttentionInput<'_>, out: &mut [f32]) {
        let AttentionInput { queries, key_values, tokens, queries_of_group } = input;
        let (width, head_dim) = (heads.width(), heads.width() / heads.count());
        let one = heads.one().with_format(self.number_format);
        let of_heads = key_values.chunks_exact(one.packed_len(tokens));
        let columns = queries.chunks_exact(queries_of_group * width).flat_map(|queries| {
            let rows = MatrixRows { data: queries, stride: width };
            (0..heads.count()).map(move |head| rows.skip_columns(head * head_dim))
        });
        let tasks = columns.zip(of_heads).zip(out.chunks_exact_mut(queries_of_group * head_dim));
        self.workers.each(tasks, |((queries, packed), out)| {
            self.scratch.with(|Scratch { scores, .. }| one.attend(queries, packed, tokens, out, scores));
        });
    }
}
