//! What the client commands have a server do: each is a [`bulk::Task`], for a few images as for files of them.

mod asking;
mod captioning;
mod conversation;
mod embedding;
mod matching;
mod picture;
#[cfg(test)]
mod scripted;
mod told;
mod words;

pub(super) use asking::Asking;
pub(super) use captioning::Captioning;
pub(super) use embedding::Embedding;
pub(super) use matching::Matching;
pub(super) use picture::{Pictures, is_url, name};
pub(super) use told::merge;
