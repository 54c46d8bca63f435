//! Buffers of f32 that one engine writes once and all engines read.

use std::sync::Arc;

/// Numbers that are written once and then read by anyone.
pub(crate) type FloatBuffer = Arc<[f32]>;

/// Numbers that nobody else holds.
pub(crate) fn into_unshared(mut numbers: FloatBuffer) -> Option<FloatBuffer> {
    Arc::get_mut(&mut numbers).is_some().then_some(numbers)
}
