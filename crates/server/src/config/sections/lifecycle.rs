//! Settings of the self-test and of shutdown.

use std::time::Duration;

use clap::Args;

/// The self-test of engines.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Self-test")]
pub struct SelfTestSettings {
    /// Idle time before the engine self-test runs, in seconds; 0 disables the self-test
    ///
    /// The self-test asks the engine a question with a known answer. It also runs before the server
    /// reports SERVING for the first time, and after every engine failure.
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__SELF_TEST__IDLE_S", default_value_t = 60)]
    pub self_test_idle_s: u64,
}

impl SelfTestSettings {
    /// Returns the idle time before a self-test, or `None` if self-tests are disabled.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        (self.self_test_idle_s > 0).then_some(Duration::from_secs(self.self_test_idle_s))
    }
}

/// Shutdown.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Shutdown")]
pub struct DrainSettings {
    /// Time to accept calls after the first SIGTERM or SIGINT, in seconds
    ///
    /// Health reports NOT_SERVING during this time, so that load balancers choose other servers.
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__DRAIN__GRACE_S", default_value_t = 0)]
    pub drain_grace_s: u64,

    /// Time for calls in flight to end afterwards, in seconds
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__DRAIN__LIMIT_S", default_value_t = 30)]
    pub drain_limit_s: u64,
}
