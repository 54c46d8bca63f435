//! Limits at which generation ends.

/// The first token and the limits of generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoppingCriteria {
    /// First input of the decoder.
    pub(crate) start_token: i64,
    /// Token that ends a sequence.
    pub(crate) stop_token: i64,
    /// Default limit of generated tokens, for rows without a limit.
    pub(crate) max_new_tokens: i64,
    /// Positions of the decoder. Start token and prompt count, too.
    pub(crate) max_positions: i64,
}

impl StoppingCriteria {
    /// Returns the limit of generated tokens after a prompt of `prompt` tokens. The start token
    /// does not count.
    pub(crate) fn limit(&self, requested: Option<u32>, prompt: usize) -> i64 {
        let room = self.max_positions - prompt as i64;
        requested.map_or(self.max_new_tokens, i64::from).clamp(1, room.max(1))
    }
}
