//! The pipeline: a request becomes a stream of item results.
//!
//! The [`dispatcher`] finds the model and validates the request. A [`call`] prepares each input,
//! submits its items to the scheduler and builds a [`reply`] from each completion.

pub mod dispatcher;
pub mod call;
pub mod streams;
pub mod request;
pub mod item_result;
pub mod metrics;
pub mod reply;
pub mod timing;
pub mod errors;
pub mod trace;
