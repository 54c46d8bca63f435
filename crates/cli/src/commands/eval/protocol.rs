//! Settings of an evaluation by name.

use clap::ValueEnum;

/// Settings of an evaluation by one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// The settings of the BLIP paper.
    Paper,
}
