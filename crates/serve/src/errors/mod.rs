//! Every error that a caller can meet: one table, and what is made of it.

mod documentation;
mod refusal;
mod table;

pub use documentation::documentation;
pub use refusal::{DOMAIN, Refusal};
pub use table::{Reason, Row, Scope, code_name};
