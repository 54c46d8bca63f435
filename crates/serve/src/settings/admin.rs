//! Settings of who may change a server while it runs.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Changes to a running server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Administration")]
pub struct AdminSettings {
    /// Let administrators load models, replace them and take them away while the server runs: those whose API key has `admin`
    /// set in the file of keys; where there are no keys, callers from this machine
    #[arg(long, env = "BLIP_SERVE__ADMIN__ON")]
    pub admin: bool,

    /// The folder whose subfolders administrators may load models from; they may always load those inside this program and
    /// those of the hub
    #[arg(long, value_name = "DIR", env = "BLIP_SERVE__ADMIN__MODEL_DIR", value_hint = ValueHint::DirPath)]
    pub model_dir: Option<PathBuf>,
}
