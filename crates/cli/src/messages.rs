//! Messages to the user on standard error, one line each.

use std::io::Write as _;

use blip_server::{config::SettingsError, serve::exit::Exit};

/// Prints a message in one line. Ignores a closed standard error.
pub(crate) fn print_message(message: &str) {
    let _ = writeln!(std::io::stderr(), "blip-serve: {}", message.replace('\n', " "));
}

/// Prints why the settings are invalid and returns the exit status.
pub(crate) fn print_settings_error(error: &SettingsError) -> Exit {
    print_message(&error.to_string());
    Exit::Usage
}
