//! Scaled dot-product attention over heads.

mod heads;
mod packed;
mod rows;
mod single_query;
mod softmax;
#[cfg(test)]
mod tests;

pub use heads::Heads;
pub use rows::Rows;
pub use single_query::attend_one;
