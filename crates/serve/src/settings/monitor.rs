//! Settings of the listener for those who watch.

use clap::Args;

use super::Listen;

/// The listener of metrics and health.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsSettings {
    /// Address and port of /metrics, /livez, /readyz, /healthz and /log-filter, always in plain text and without keys;
    /// port 0 takes a free one and says which; off for none
    #[arg(
        long,
        value_name = "ADDRESS|off",
        env = "BLIP_SERVE__METRICS__LISTEN",
        default_value = "127.0.0.1:9090"
    )]
    pub metrics_listen: Listen,
}
