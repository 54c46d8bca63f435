//! Shares of a limited resource by caller: bytes, places or connections.
//!
//! A [`FairShare`] has a capacity. A [`Share`] is what one [`Caller`] holds of it. A caller may
//! hold nearly all while it is alone, and a share by its weight while others want some, too. A
//! caller that comes later finds room. [`scheduler::Room`] is the rule.

pub mod pool;
pub mod caller;

pub use caller::Caller;
pub use pool::{FairShare, Refusal, Share};
