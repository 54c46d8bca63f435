//! What a row of queries attends to.

/// A row of queries, and the range of tokens to which it attends.
#[derive(Debug, Clone, Copy)]
pub struct TokenRange {
    /// The first token.
    pub start: i64,
    /// Queries of the row.
    pub queries: i64,
}
