//! The computation of each architecture on the features of a batch's images, one file for each
//! reference class.

pub(crate) mod captioning;
pub(crate) mod question_answering;
pub(crate) mod decoding_plan;
pub(crate) mod retrieval;
pub(crate) mod task_limits;
