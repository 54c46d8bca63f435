//! Adapters of result streams: completion, order, streamed tokens, write times.

pub mod complete_on_error;
pub mod in_order;
pub mod token_stream;
pub mod write_timing;
