//! The limits at which decoding ends.

/// Where writing begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoppingCriteria {
    /// The decoder's first input.
    pub(crate) start_token: i64,
    /// The token that ends what is written.
    pub(crate) stop_token: i64,
    /// Tokens that may be written where a row does not say otherwise.
    pub(crate) max_new_tokens: i64,
    /// Tokens that the decoder has positions for, start token and prompt included.
    pub(crate) max_positions: i64,
}

impl StoppingCriteria {
    /// Tokens that may be written behind a prompt of so many tokens, the start token not counted.
    pub(crate) fn limit(&self, requested: Option<u32>, prompt: usize) -> i64 {
        let room = self.max_positions - prompt as i64;
        requested.map_or(self.max_new_tokens, i64::from).clamp(1, room.max(1))
    }
}
