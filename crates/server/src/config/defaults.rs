//! Defaults of settings, as the command-line parser defines them.

use std::ffi::OsString;

use clap::{Args, Command};

/// Returns the defaults of all settings in `S`. The environment has no effect.
pub(crate) fn defaults<S: Args>() -> S {
    let command = S::augment_args(Command::new("blip-serve").no_binary_name(true))
        .mut_args(|argument| argument.env(None::<&str>));
    let parsed = command
        .try_get_matches_from(std::iter::empty::<OsString>())
        .and_then(|matches| S::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| error.exit())
}
