//! What can be watched from outside: metrics for Prometheus, and whether the server lives and is ready.

mod answers;
mod caches;
mod call;
mod calls;
mod device_memory;
mod documentation;
mod endpoint;
mod log_filter;
mod models;
mod process_memory;
mod recorder;
mod routes;
mod table;

pub use answers::AnswerMeters;
pub use caches::{KeptAnswers, KeptFeatures, KeptPixels};
pub(crate) use calls::method_of;
pub use calls::{Observed, ObservedLayer};
pub use endpoint::{Look, Vitals, Watchers, serve};
pub use recorder::{BUCKETS, install};
pub use routes::observed;
pub use table::{
    METRICS, Open, Stage, Unfinished, connection_opened, connection_refused, drain_ends_within,
    expect_canary, observe_canary, observe_refusal, observe_write,
};
