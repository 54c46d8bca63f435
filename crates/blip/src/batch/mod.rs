//! Tasks and rows of a batch, and the order in which they are computed.

pub(crate) mod layout;
pub(crate) mod rows;
pub(crate) mod task;
pub(crate) mod attention_map;
