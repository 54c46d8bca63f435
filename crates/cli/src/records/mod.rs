//! The tasks of the client commands: each sends records to a server and returns their results.
//!
//! A task loads the image of its records, sends one request for all records about this image, and
//! turns the responses into fields. `commands::interactive` runs a task on the images of a command
//! line, and the `bulk` crate runs it on a record file.

mod ask;
mod caption;
mod match_texts;
mod embed;
mod client_stream;
mod record_group;
mod image_loader;
mod record_text;
mod classify_errors;
mod response_fields;
#[cfg(test)]
mod tests;

pub(crate) use ask::AskTask;
pub(crate) use caption::{CaptionTask, PieceSink};
pub(crate) use embed::EmbedTask;
pub(crate) use image_loader::{ImageLoader, display_name, is_url};
pub(crate) use match_texts::MatchTask;
pub(crate) use record_text::text;
pub(crate) use response_fields::{RESULT_FIELDS, error_fields};
