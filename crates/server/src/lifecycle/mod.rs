//! Loads, supervises and unloads models while the server runs, and reports its health.
//!
//! The [`manager::ModelManager`] loads each model and warms it up: the [`self_test::SelfTest`] must
//! pass before the model serves. A [`supervisor::SupervisedModel`] then runs periodic self-tests
//! and the [`watchdog`], and reports to [`health::Health`].

pub mod manager;
pub mod supervisor;
pub mod self_test;
pub mod watchdog;
pub mod health;
pub mod admin;
