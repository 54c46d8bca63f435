//! Loads models and holds the loaded ones by name.
//!
//! The settings and `LoadModel` requests describe a model as a [`spec::ModelSpec`]. The
//! [`loader::ModelLoader`] turns it into a [`loaded_model::LoadedModel`]: preprocessing, a
//! scheduler and its engines. The [`registry::ModelRegistry`] holds the loaded models, and the
//! dispatcher looks them up for each request.

pub mod registry;
pub mod serving_state;
pub mod loader;
pub mod loaded_model;
pub mod spec;
pub mod source;
pub mod info;
