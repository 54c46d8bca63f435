//! Settings of who may call.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::auth::Secret;

/// Who may call.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Callers")]
pub struct AuthSettings {
    /// API keys that may call, comma-separated, each in plain text or as sha256: and the hash of it in hexadecimal
    /// digits. Others on this machine can read a command line: better use the environment, a file, or --auth-keys-file
    /// [default: none, everyone may call]
    #[arg(
        long,
        value_name = "KEY",
        value_delimiter = ',',
        env = "BLIP_SERVE__AUTH__KEYS",
        hide_env_values = true
    )]
    pub auth_keys: Vec<Secret>,

    /// A TOML file of API keys with what each of them may do: an array of tables `keys`, each with name, key, and where wanted
    /// priority (high, normal, low), weight, questions_per_s, burst and admin (true or false)
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__AUTH__KEYS_FILE", value_hint = ValueHint::FilePath)]
    pub auth_keys_file: Option<PathBuf>,

    /// Listen on addresses that others can reach although there are no keys: everyone there may ask
    #[arg(long, env = "BLIP_SERVE__AUTH__INSECURE")]
    pub insecure: bool,

    /// How often the file of keys and the TLS files are looked at for changes, in seconds; SIGHUP does it at once
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__AUTH__RELOAD_S", default_value_t = 10)]
    pub auth_reload_s: u64,
}
