//! What the exit code of the program says.

/// Exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was well; for `serve`: stopped by a signal, and every call in flight was answered.
    Clean,
    /// `serve` could not start; a client command got no answer to something it asked.
    Failed,
    /// The command line is wrong.
    Usage,
    /// `serve` was stopped by a signal, and calls were still in flight when the drain limit was reached.
    DrainLimit,
    /// The engine broke while serving, for instance by a fatal CUDA error. Start the server anew.
    EngineBroken,
    /// A second signal, of this number, cut the drain short; or one stopped a client command.
    Signal(i32),
}

impl Exit {
    /// The code that the process ends with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::DrainLimit => 3,
            Self::EngineBroken => 4,
            // As shells report a program that a signal ended: 130 for SIGINT, 143 for SIGTERM.
            Self::Signal(number) => 128_u8.saturating_add(u8::try_from(number).unwrap_or(0)),
        }
    }
}

/// The same for `--help`.
pub const HELP: &str = "\
Exit codes:
    0  fine; after SIGTERM or SIGINT: every call in flight was answered
    1  serve could not start, or something that was asked got no answer
    2  wrong command line
    3  calls were still in flight when the drain limit was reached
    4  the engine broke while serving
  130  a second SIGINT ended the program at once (143: SIGTERM)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_code() {
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
