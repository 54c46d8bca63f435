//! Tests of the whole model: golden tests against `transformers`, and tests of batch invariance.

pub(crate) mod random_layers;
pub(crate) mod batch_invariance;
pub(crate) mod captioning;
pub(crate) mod generation;
pub(crate) mod golden_files;
pub(crate) mod image_sizes;
pub(crate) mod matching;
pub(crate) mod original_conventions;
pub(crate) mod reference_parity;
pub(crate) mod released_shapes;
pub(crate) mod task_goldens;
