//! Sets up log lines on standard error, in a format for people or for programs.

pub mod filter;
pub mod throttle;

use std::{io::IsTerminal as _, str::FromStr};

use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::telemetry::logging::filter::LogFilter;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people, coloured on a terminal.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("unknown log format {text:?}, expected pretty or json")),
        }
    }
}

/// Returns whether standard error is a terminal, and `NO_COLOR` (no-color.org) is not set.
fn is_coloured() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !is_refused
}

/// Logs the lines that `filter` selects on standard error.
///
/// Returns a handle that changes the filter.
#[must_use]
pub fn install(filter: EnvFilter, format: LogFormat) -> LogFilter {
    let (filter, _) = reload::Layer::new(filter);
    let handle = LogFilter::of(&filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Pretty => lines.with_ansi(is_coloured()).boxed(),
        // The current span holds the request id and the trace id.
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    Registry::default().with(filter).with(lines).init();
    handle
}
