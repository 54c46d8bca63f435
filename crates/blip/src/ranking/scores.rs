//! Candidates scored together: one level of their tries is one step of the decoder, one node one hypothesis.

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

/// Some candidates of one row.
#[derive(Debug)]
pub(crate) struct CandidateChunk {
    /// Index of the row that they belong to.
    pub(crate) owner: usize,
    /// Candidates with their scores, as soon as they have one.
    pub(crate) scores: Vec<(usize, f64)>,
    trie: CandidateTrie,
    /// Losses of the nodes of the level that comes next, those of their beginnings included.
    losses: Vec<f64>,
}

impl CandidateChunk {
    /// The candidates `members` of `ranking`, whose first tokens have these losses.
    pub(crate) fn new(
        owner: usize,
        ranking: &Ranking,
        members: &[usize],
        first_losses: &HashMap<i64, f64>,
    ) -> Self {
        let candidates =
            members.iter().filter_map(|&member| Some((member, &ranking.candidates.get(member)?[..])));
        let trie = CandidateTrie::new(candidates);
        let losses = trie.level(0).iter();
        let losses = losses.map(|node| first_losses.get(&node.token).copied().unwrap_or(f64::NAN)).collect();
        Self { owner, scores: Vec::new(), trie, losses }
    }

    /// Hypotheses that it needs at most.
    pub(crate) fn width(&self) -> usize {
        self.trie.width()
    }

    pub(crate) fn has_level(&self, depth: usize) -> bool {
        !self.trie.level(depth).is_empty()
    }

    /// What has to be known of the logits behind each node at `depth`: the stop token where a candidate ends, and every token
    /// that goes on.
    fn targets(&self, depth: usize, stop_token: i64) -> impl Iterator<Item = (usize, i64)> + '_ {
        let ends = self.trie.level(depth).iter().enumerate().filter(|(_, node)| !node.candidates.is_empty());
        let goes_on = self.trie.level(depth + 1).iter().map(|child| (child.parent, child.token));
        ends.map(move |(node, _)| (node, stop_token)).chain(goes_on)
    }

    /// Takes in the losses of [`Self::targets`], in their order.
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

/// Decodes the nodes of `chunks` at `depth`. Before it, `above` says of each chunk which memory of `state` it reads and where its
/// hypotheses begin, and after it, the same of the new hypotheses is returned.
pub(crate) fn score_level(
    context: DecodeContext<'_>,
    state: &mut DecoderState,
    chunks: &mut [CandidateChunk],
    depth: usize,
    above: &[(i64, i64)],
) -> Result<Vec<(i64, i64)>, TchError> {
    let stop_token = context.stopping.stop_token;
    let (mut tokens, mut hypotheses, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut starts, mut hypotheses_of_memory) = (Vec::new(), Vec::new());
    for ((memory, chunk), &(_, first_above)) in (0..).zip(&*chunks).zip(above) {
        let (nodes, first) = (chunk.trie.level(depth), tokens.len() as i64);
        starts.push((memory, first));
        hypotheses_of_memory.push(nodes.len() as i64);
        tokens.extend(nodes.iter().map(|node| node.token));
        hypotheses.extend(nodes.iter().map(|node| first_above + node.parent as i64));
        let chunk_targets = chunk.targets(depth, stop_token);
        targets.extend(chunk_targets.map(|(node, token)| Target { hypothesis: first + node as i64, token }));
    }
    let memories: Vec<i64> = above.iter().map(|&(memory, _)| memory).collect();
    state.select_hypotheses(&hypotheses)?;
    state.select_memories(&memories, HypothesisLayout::new(&hypotheses_of_memory))?;
    let logits = context.decoder.step(&tokens, state)?;
    let mut losses = TargetLosses::read(&logits, &targets)?.into_iter();
    for chunk in chunks {
        let count = chunk.targets(depth, stop_token).count();
        chunk.append(depth, &mut losses.by_ref().take(count));
    }
    Ok(starts)
}
