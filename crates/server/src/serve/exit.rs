//! The exit codes of the program.

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success. For `serve`: a signal stopped the server, and it finished every call in flight.
    Clean,
    /// `serve` could not start, or a request of a client command failed.
    Failed,
    /// The command line is invalid.
    Usage,
    /// A signal stopped `serve`, and calls were still in flight at the drain limit.
    DrainLimit,
    /// All engines of a model failed, for example by a fatal CUDA error.
    ///
    /// The server must be restarted.
    EngineBroken,
    /// A second signal of this number ended the drain, or the signal stopped a client command.
    Signal(i32),
}

impl Exit {
    /// Returns the exit code of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::DrainLimit => 3,
            Self::EngineBroken => 4,
            // The convention of shells: 130 for SIGINT, 143 for SIGTERM.
            Self::Signal(number) => 128_u8.saturating_add(u8::try_from(number).unwrap_or(0)),
        }
    }
}

/// The exit codes, for `--help`.
pub const HELP: &str = "\
Exit codes:
    0  success; after SIGTERM or SIGINT: every call in flight was answered
    1  serve could not start, or a request failed
    2  invalid command line
    3  calls were still in flight at the drain limit
    4  the engine failed while serving
  130  a second SIGINT ended the program at once (143: SIGTERM)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_exit_code() {
        let codes = [
            Exit::Clean,
            Exit::Failed,
            Exit::Usage,
            Exit::DrainLimit,
            Exit::EngineBroken,
            Exit::Signal(2),
            Exit::Signal(15),
        ];
        for exit in codes {
            assert!(
                HELP.contains(&format!("{} ", exit.code())) || HELP.contains(&format!("{}:", exit.code())),
                "{exit:?}"
            );
        }
    }
}
