//! Attention to tokens of images and texts.

use std::sync::PoisonError;

use cpu_kernels::{CpuLinear, Epilogue, Heads, MatrixRows, attend_single_query};

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
                let keys = MatrixRows::new(key_values, 2 * width).skip_columns(first_column);
                let packed = packed.take(one.packed_len(tokens));
                one.pack(keys, keys.skip_columns(width), tokens, packed);
                let queries = MatrixRows::new(queries, width).skip_columns(first_column);
                one.attend(queries, packed, tokens, out, scores);
            });
        });
    }

    /// Computes the keys and values of an image's `features` `[tokens, inputs]`, and packs them for
    /// [`Self::attend_images`] to `out` `[packed length]`.
    ///
    /// `key_value` computes all keys, then all values.
    pub(crate) fn project(&self, key_value: &CpuLinear, heads: Heads, features: &[f32], out: &mut [f32]) {
        let (width, head_dim) = (heads.width(), heads.width() / heads.count());
        let tokens = features.len() / key_value.inputs();
        let mut memory = self.key_values.lock().unwrap_or_else(PoisonError::into_inner);
        let key_values = memory.take(tokens * key_value.outputs());
        self.linear(key_value, features, key_values, Epilogue::Store);
        let one = heads.one().with_format(self.number_format);
        let keys = MatrixRows::new(key_values, 2 * width);
        let of_heads = (0..).step_by(head_dim).zip(out.chunks_exact_mut(one.packed_len(tokens)));
        self.workers.each(of_heads, |(first_column, packed)| {
            let keys = keys.skip_columns(first_column);
            one.pack(keys, keys.skip_columns(width), tokens, packed);
        });
    }

    /// Computes the attention of each text to itself, to `out` `[tokens, heads * head dim]`.
    ///
    /// `qkv` `[tokens, 3 * heads * head dim]` has the queries, keys and values of all texts, one
    /// text after the other. `lengths` are their tokens.
    pub(crate) fn attend_within(
        &self,
        heads: Heads,
        qkv: &[f32],
        lengths: impl Iterator<Item = usize> + Send,
        out: &mut [f32],
    ) {
        let width = heads.width();
        let mut rest = (qkv, out);
        let texts = lengths.map(|tokens| {
            let (qkv, out) = std::mem::take(&mut rest);
            let (qkv, other_qkv) = qkv.split_at_checked(3 * tokens * width).unwrap_or_default();
            let (out, other_out) = out.split_at_mut_checked(tokens * width).unwrap_or_default();
            rest = (other_qkv, other_out);
            (tokens, qkv, out)
        });
        self.workers.each(texts, |(tokens, qkv, out)| {
            self.scratch.with(|Scratch { packed, scores, .. }| {
                let queries = MatrixRows::new(qkv, 3 * width);
                let keys = queries.skip_columns(width);
                let packed = packed.take(heads.packed_len(tokens));
                heads.pack(keys, keys.skip_columns(width), tokens, packed);
                heads.attend(queries, packed, tokens, out, scores);
            });
        });
    }

    /// Computes the attention of one query of each row to the row's tokens.
    ///
    /// A row has a query `[heads * head dim]`, keys and values `[tokens, 2 * heads * head dim]`,
    /// and the place of its context `[heads * head dim]`.
    pub(crate) fn attend_single_queries<'a>(
        &self,
        heads: Heads,
        rows: impl Iterator<Item = (&'a [f32], &'a [f32], &'a mut [f32])> + Send,
    ) {
        self.workers.each(rows, |(query, key_values, out)| {
            self.scratch.with(|Scratch { scores, .. }| {
                let key_values = MatrixRows::new(key_values, 2 * heads.width());
                attend_single_query(heads, query, key_values, out, scores);
            });
        });
    }
}
