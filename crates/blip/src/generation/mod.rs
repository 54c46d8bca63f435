//! Generates token sequences: by greedy decoding, beam search or sampling.

pub(crate) mod greedy;
pub(crate) mod search;
pub(crate) mod decode_context;
pub(crate) mod search_step;
pub(crate) mod logits_warpers;
pub(crate) mod search_row;
pub(crate) mod stopping_criteria;
pub(crate) mod beam_search;
pub(crate) mod logits_processors;
pub(crate) mod sampling;
