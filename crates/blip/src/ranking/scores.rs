//! Scores the candidates of several rows together.
//!
//! A level of the tries is one decoder step. A node of a level is one hypothesis.

use std::collections::HashMap;

use tch::TchError;

use crate::{
    batch::task::Ranking,
    decoder::state::DecoderState,
    generation::decode_context::DecodeContext,
    ranking::{
        target_loss::{Target, TargetLosses},
        trie::CandidateTrie,
    },
    text::hypotheses::HypothesisLayout,
};

/// Candidates of one row that are scored together.
#[derive(Debug)]
pub(crate) struct CandidateChunk {
    /// Index of the row.
    pub(crate) row_index: usize,
    /// Scored candidates: index and log-likelihood.
    pub(crate) scores: Vec<(usize, f64)>,
    trie: CandidateTrie,
    /// Losses of the nodes of the next level, with the losses of their prefixes.
    losses: Vec<f64>,
}

impl CandidateChunk {
    /// Creates a chunk of the candidates `members` of `ranking`. `first_losses` has the loss of
    /// each first token.
    pub(crate) fn new(
        row_index: usize,
        ranking: &Ranking,
        members: &[usize],
        first_losses: &HashMap<i64, f64>,
    ) -> Self {
        let candidates =
            members.iter().filter_map(|&member| Some((member, &ranking.candidates.get(member)?[..])));
        let trie = CandidateTrie::new(candidates);
        let losses = trie.level(0).iter();
        let losses = losses.map(|node| first_losses.get(&node.token).copied().unwrap_or(f64::NAN)).collect();
        Self { row_index, scores: Vec::new(), trie, losses }
    }

    /// Returns the largest number of hypotheses that the chunk needs.
    pub(crate) fn width(&self) -> usize {
        self.trie.width()
    }

    /// Returns whether any candidate has a token at `depth`.
    pub(crate) fn has_level(&self, depth: usize) -> bool {
        !self.trie.level(depth).is_empty()
    }

    /// Returns the tokens whose losses are needed after the level `depth`, each with its node's
    /// index.
    ///
    /// These are the stop token for each node where a candidate ends, then the token of each child.
    fn targets(&self, depth: usize, stop_token: i64) -> impl Iterator<Item = (usize, i64)> + '_ {
        let ends = self.trie.level(depth).iter().enumerate().filter(|(_, node)| !node.candidates.is_empty());
        let goes_on = self.trie.level(depth + 1).iter().map(|child| (child.parent, child.token));
        ends.map(move |(node, _)| (node, stop_token)).chain(goes_on)
    }

    /// Adds the losses of [`Self::targets`], in the same order.
    fn append(&mut self, depth: usize, targets: &mut impl Iterator<Item = TargetLosses>) {
        let so_far = std::mem::take(&mut self.losses);
        let before = |node: usize| so_far.get(node).copied().unwrap_or(f64::NAN);
        for (index, node) in self.trie.level(depth).iter().enumerate() {
            if !node.candidates.is_empty() {
                let loss = before(index) + targets.next().map_or(f64::NAN, |target| target.smoothed());
                self.scores.extend(node.candidates.iter().map(|&candidate| (candidate, -loss)));
            }
        }
        let children = self.trie.level(depth + 1).iter().zip(targets);
        self.losses = children.map(|(child, target)| before(child.parent) + target.smoothed()).collect();
    }
}

/// Decodes the nodes of `chunks` at `depth`.
///
/// `above` has two indices for each chunk: its row of encoder states in `state`, and its first
/// hypothesis. Returns the same indices after the step.
pub(crate) fn score_level(
    context: DecodeContext<'_>,
    state: &mut DecoderState,
    chunks: &mut [CandidateChunk],
    depth: usize,
    above: &[(i64, i64)],
) -> Result<Vec<(i64, i64)>, TchError> {
    let stop_token = context.stopping.stop_token;
    let (mut tokens, mut hypotheses, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut starts, mut hypothesis_counts) = (Vec::new(), Vec::new());
    for ((encoder_row, chunk), &(_, first_above)) in (0..).zip(&*chunks).zip(above) {
        let (nodes, first) = (chunk.trie.level(depth), tokens.len() as i64);
        starts.push((encoder_row, first));
        hypothesis_counts.push(nodes.len() as i64);
        tokens.extend(nodes.iter().map(|node| node.token));
        hypotheses.extend(nodes.iter().map(|node| first_above + node.parent as i64));
        let chunk_targets = chunk.targets(depth, stop_token);
        targets.extend(chunk_targets.map(|(node, token)| Target { hypothesis: first + node as i64, token }));
    }
    let encoder_rows: Vec<i64> = above.iter().map(|&(encoder_row, _)| encoder_row).collect();
    state.select_hypotheses(&hypotheses)?;
    state.select_encoder_rows(&encoder_rows, HypothesisLayout::new(&hypothesis_counts))?;
    let logits = context.decoder.step(&tokens, state)?;
    let mut losses = TargetLosses::read(&logits, &targets)?.into_iter();
    for chunk in chunks {
        let count = chunk.targets(depth, stop_token).count();
        chunk.append(depth, &mut losses.by_ref().take(count));
    }
    Ok(starts)
}
