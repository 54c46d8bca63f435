//! The front end of blip-serve: gRPC, command line, settings, and the joint between scheduler and model.

pub mod ask;
pub mod cli;
pub mod codec;
pub mod deadline;
pub mod demo;
pub mod drain;
pub mod engine;
pub mod errors;
pub mod exit;
pub mod fetching;
pub mod gate;
pub mod intake;
pub mod load;
pub mod prepare;
pub mod proto;
pub mod refusals;
pub mod server;
pub mod settings;
pub mod signals;
pub mod upload;
pub mod validate;
