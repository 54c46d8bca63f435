//! What shells and manuals need: completion scripts and man pages.

mod completions;
mod man;

pub(crate) use completions::CompletionsCommand;
pub(crate) use man::ManCommand;
