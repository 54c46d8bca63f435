//! Log lines on standard error, for people or for programs.

use std::{io::IsTerminal as _, str::FromStr};

use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use super::LogFilter;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, in colours on a terminal.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is not pretty or json")),
        }
    }
}

/// Logs on standard error from now on what `filter` lets through, which can be changed by the result.
#[must_use]
pub fn install(filter: EnvFilter, format: LogFormat) -> LogFilter {
    let (filter, _) = reload::Layer::new(filter);
    let handle = LogFilter::of(&filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Pretty => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        // The span is the request: its id and its trace's.
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    Registry::default().with(filter).with(lines).init();
    handle
}
