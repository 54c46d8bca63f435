//! Messages to the user on standard error, one line each.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::Arc,
};

use anstream::stderr;
use blip_server::{config::SettingsError, models::info::ModelInfo, serve::exit::Exit};
use clap::builder::styling::Style;

/// Prints a message in one line. Ignores a closed standard error.
pub(crate) fn print_message(message: &str) {
    let bold = Style::new().bold();
    let _ = writeln!(stderr(), "{bold}blip-serve:{bold:#} {}", message.replace('\n', " "));
}

/// Prints progress on a terminal. Elsewhere, standard error is for errors.
pub(crate) fn announce(message: &str) {
    if std::io::stderr().is_terminal() {
        print_message(message);
    }
}

/// Prints why the settings are invalid and returns the exit status.
pub(crate) fn print_settings_error(error: &SettingsError) -> Exit {
    print_message(&error.to_string());
    Exit::Usage
}

/// Describes models in one line. The name of a single model is left out: no request needs it.
pub(crate) fn describe_models(models: &[Arc<ModelInfo>]) -> String {
    let describe = |model: &Arc<ModelInfo>| {
        let ModelInfo { name, source, revision, device, dtype, .. } = &**model;
        let named = if models.len() > 1 { format!("{name}={source}") } else { source.clone() };
        let revision = revision.as_ref().map(|commit| format!(" (commit {commit})")).unwrap_or_default();
        format!("model {named}{revision}, device {device}, dtype {dtype}")
    };
    models.iter().map(describe).collect::<Vec<_>>().join(", ")
}
