//! The settings of the server.
//!
//! Each setting is defined once, in a struct of [`sections`], with its unit, default, environment
//! variable and help. [`schema`] lists these definitions. A file, the environment and the command
//! line give values to them, and [`Sources`] combines those into [`Settings`].

pub mod docs;
pub mod render;
pub mod cli_args;
pub mod sources;
pub mod schema;
pub mod settings;
pub mod sections;
pub(crate) mod defaults;
pub(crate) mod renamed;
pub(crate) mod suggest;
pub mod units;
pub mod secret;
pub mod error;
#[cfg(test)]
pub(crate) mod tests;

pub use cli_args::{CliArgs, ModelCliArgs};
pub use docs::documentation;
pub use error::{SettingsError, one_line};
pub use renamed::Renaming;
pub use render::{effective_json, effective_toml, example};
pub use schema::{Definition, Kind, definition, definitions};
pub use sections::{
    AdminSettings, AuthSettings, CandidateFile, CorsOrigin, DrainSettings, DtypeRequest, FetchSettings,
    GrpcSettings, HttpSettings, Listen, LogSettings, MetricsSettings, ModelChoice, ModelName, ModelSettings,
    OtlpProtocol, PreprocessSettings, Ratio, RequestLimits, SchedulerSettings, SelfTestSettings, TlsSettings,
    TraceSettings,
};
pub use settings::Settings;
pub use sources::{
    Origin, Resolved, ResolvedSetting, SourceValues, Sources, environment, parse_file, read_file,
};
