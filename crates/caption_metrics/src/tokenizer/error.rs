//! The error of the tokenizer.

/// The rules of the tokenizer cannot be compiled or run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerError(pub(crate) String);

impl std::fmt::Display for TokenizerError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "invalid rule of the tokenizer: {}", self.0)
    }
}

impl std::error::Error for TokenizerError {}
