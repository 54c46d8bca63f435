//! Settings of authentication and administration.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::config::secret::Secret;

/// Authentication of clients.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Authentication")]
pub struct AuthSettings {
    /// API keys of clients, comma-separated
    ///
    /// A key is plain text, or sha256: and its hash in hexadecimal digits. Other users of the
    /// machine can read a command line, so use the environment, a file or --auth-keys-file instead.
    ///
    /// [default: none, every client may call]
    #[arg(
        long,
        value_name = "KEY",
        value_delimiter = ',',
        env = "BLIP_SERVE__AUTH__KEYS",
        hide_env_values = true
    )]
    pub auth_keys: Vec<Secret>,

    /// TOML file of API keys with their rights
    ///
    /// An array of tables `keys`. Each has name and key, and optionally priority (high, normal,
    /// low), weight, questions_per_s, burst and admin (true, false).
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__AUTH__KEYS_FILE", value_hint = ValueHint::FilePath)]
    pub auth_keys_file: Option<PathBuf>,

    /// Allow unauthenticated clients on non-loopback addresses
    #[arg(long, env = "BLIP_SERVE__AUTH__INSECURE")]
    pub insecure: bool,

    /// Interval of checks for changed key and TLS files, in seconds
    ///
    /// SIGHUP reloads the files immediately.
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__AUTH__RELOAD_S", default_value_t = 10)]
    pub auth_reload_s: u64,
}

/// Changes of models while the server runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Administration")]
pub struct AdminSettings {
    /// Allow administrators to load and unload models while the server runs
    ///
    /// An administrator has an API key with `admin` set in the keys file. If there are no keys,
    /// every client on the server's machine is an administrator.
    #[arg(long, env = "BLIP_SERVE__ADMIN__ON")]
    pub admin: bool,

    /// Folder from whose subfolders administrators may load models
    ///
    /// Administrators may always load embedded models and models of the hub.
    #[arg(long, value_name = "DIR", env = "BLIP_SERVE__ADMIN__MODEL_DIR", value_hint = ValueHint::DirPath)]
    pub model_dir: Option<PathBuf>,
}
