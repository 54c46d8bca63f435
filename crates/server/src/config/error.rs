//! Errors in settings, each a message of one line.

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings file {path}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// The error of the operating system, or the reason why the server does not read the file.
        cause: String,
    },
    /// The file is not valid TOML or YAML.
    #[error("{path}, line {line}: {cause}")]
    Malformed {
        /// The file.
        path: String,
        /// The line, counted from 1.
        line: usize,
        /// The error of the parser.
        cause: String,
    },
    /// No setting has this name.
    #[error("{place}: unknown setting {name}; did you mean {nearest}?")]
    Unknown {
        /// The file, or the environment.
        place: String,
        /// The unknown name.
        name: String,
        /// The most similar name of a setting.
        nearest: String,
    },
    /// The value has the wrong type.
    #[error("{place}: invalid {name}: {value}, expected {expected}")]
    WrongKind {
        /// The file, or the environment.
        place: String,
        /// The setting, as the source spells it.
        name: String,
        /// The value, unless it is secret.
        value: String,
        /// The values allowed.
        expected: String,
    },
    /// The value is not one of those allowed.
    #[error("{place}: invalid {name}: {value}, expected {expected}: {cause}")]
    BadValue {
        /// The file, or the environment.
        place: String,
        /// The setting, as the source spells it.
        name: String,
        /// The value, unless it is secret.
        value: String,
        /// The values allowed.
        expected: String,
        /// The error of the setting's parser.
        cause: String,
    },
    /// One source sets a setting by its current name and by an old one.
    #[error("{place}: both {old} and {new} are set: {old} is the old name of {new}")]
    SetTwice {
        /// The file, the environment or the command line.
        place: String,
        /// The old name.
        old: String,
        /// The current name.
        new: String,
    },
    /// Two settings contradict each other, or a required one is missing.
    #[error("{0}")]
    Conflict(String),
}

/// Returns the message of a command-line error in one line, without usage and hints.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    in_one_line(first).trim_start_matches("error: ").to_owned()
}

/// Returns a message of several lines in one line.
pub(crate) fn in_one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
