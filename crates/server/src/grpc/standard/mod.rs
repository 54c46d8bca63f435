//! The services that the gRPC project defines: health and reflection.
//!
//! Their messages come from tonic's crates. Their server traits are generated with the codec of
//! this crate, so that messages that cannot be read have an error of the table.

pub mod health;
pub mod reflection;
