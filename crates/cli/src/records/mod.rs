//! What the client commands have a server do: each is a [`bulk::Task`], for a few images as for files of them.

pub mod ask;
pub mod caption;
pub mod client_stream;
pub mod embed;
pub mod image_loader;
pub mod match_texts;
pub mod record_text;
pub mod response_fields;
#[cfg(test)]
pub mod tests;

pub(super) use ask::Asking;
pub(super) use caption::Captioning;
pub(super) use embed::Embedding;
pub(super) use image_loader::{Pictures, is_url, name};
pub(super) use match_texts::Matching;
pub(super) use response_fields::merge;
