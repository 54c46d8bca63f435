//! Runs the batches of the scheduler on BLIP models.

pub mod batch_tuning;
pub mod blip_engine;
pub mod trace;
pub mod payload;
