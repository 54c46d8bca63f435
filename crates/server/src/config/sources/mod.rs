//! The sources of settings (a file, the environment, the command line) and their combination.

pub mod resolve;
pub mod file;
pub(crate) mod tables;
pub(crate) mod yaml;
pub mod environment;
pub(crate) mod vertex_ai; // variables of Vertex AI
pub mod source_values;

pub use environment::environment;
pub use file::{parse_file, read_file};
pub use resolve::{Origin, Resolved, ResolvedSetting, Sources};
pub use source_values::SourceValues;
