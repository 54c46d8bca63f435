//! Files of records worked through in order: a line out for every line in, resumable at any moment.
//!
//! It knows no protocol: whoever can answer records implements [`Task`]. Read in this order: [`record`] (what one is),
//! [`input`] and [`output`] (files of them), [`Task`] and [`run`] (from one to the other), [`retry`] (the same again for
//! what failed), [`progress`].
//!
//! Memory is bounded whatever the size of the files: records are read as there is room for them, [`Plan::in_flight`]
//! groups of them are worked on at a time, and an answer waits only for those of that many groups before it.

mod record_reader;
mod previous_output;
mod format;
pub mod input;
mod grouping;
pub mod output;
pub mod progress;
pub mod record;
mod retry;
mod run;
mod task;

pub use format::Format;
pub use input::Input;
pub use output::{Existing, Output, OutputError};
pub use progress::Progress;
pub use record::{Fields, Record};
pub use retry::{Written, retry};
pub use run::{Plan, Stopped, Summary, run};
pub use task::{Outcome, Task};
