//! Buffers of f32 that one engine writes and all engines read.

use std::sync::Arc;

/// Values that are written once and then shared by reference count.
pub(crate) type FloatBuffer = Arc<[f32]>;

/// Returns the buffer if this is its only reference.
pub(crate) fn into_unshared(mut buffer: FloatBuffer) -> Option<FloatBuffer> {
    Arc::get_mut(&mut buffer).is_some().then_some(buffer)
}
