//! Settings of the question that the server asks itself.

use std::time::Duration;

use clap::Args;

/// The question that the server asks itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Canary")]
pub struct CanarySettings {
    /// How long no question may have been answered before the server asks itself one whose answer it knows, in seconds;
    /// it does so after each failure of an engine, too, and before it says SERVING for the first time; 0 for never
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__CANARY__IDLE_S", default_value_t = 60)]
    pub canary_idle_s: u64,
}

impl CanarySettings {
    /// How long no question may have been answered, if the server asks itself at all.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        (self.canary_idle_s > 0).then_some(Duration::from_secs(self.canary_idle_s))
    }
}
