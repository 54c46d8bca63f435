//! What is wrong with the settings, in one line.

/// Why there are no settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// The operating system's reason, or ours.
        cause: String,
    },
    /// The file is neither TOML nor YAML.
    #[error("{path}, line {line}: {cause}")]
    Malformed {
        /// The file.
        path: String,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        cause: String,
    },
    /// There is no such setting.
    #[error("{place}: {name} is no setting, did you mean {nearest}?")]
    Unknown {
        /// The file, or the environment.
        place: String,
        /// What was named there.
        name: String,
        /// The setting whose name is most like it.
        nearest: String,
    },
    /// A setting has a value of the wrong kind.
    #[error("{place}: {name} is {value}, expected {expected}")]
    WrongKind {
        /// The file, or the environment.
        place: String,
        /// The setting.
        name: String,
        /// What it is, without a secret.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// A setting has a value that it cannot have.
    #[error("{place}: {name} is {value}, expected {expected}: {cause}")]
    BadValue {
        /// The file, or the environment.
        place: String,
        /// The setting.
        name: String,
        /// What it is, without a secret.
        value: String,
        /// What it may be.
        expected: String,
        /// What is wrong.
        cause: String,
    },
    /// Settings do not go together.
    #[error("{0}")]
    Together(String),
}

/// What the command line's parser says, without its layout.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    in_one_line(first).trim_start_matches("error: ").to_owned()
}

/// A message of several lines in one.
pub(super) fn in_one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
