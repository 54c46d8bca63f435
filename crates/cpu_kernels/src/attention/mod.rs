//! Scaled dot-product attention over heads.
//!
//! Many queries read packed keys and values ([`Heads::pack`], [`Heads::attend`]). A single query
//! reads them unpacked ([`attend_single_query`]), because packing would cost more than it saves.

mod packed;
mod rounded;
mod single_query;
mod heads;
mod matrix_rows;
mod softmax;
#[cfg(test)]
mod tests;

pub use heads::Heads;
pub use matrix_rows::MatrixRows;
pub use single_query::attend_single_query;
