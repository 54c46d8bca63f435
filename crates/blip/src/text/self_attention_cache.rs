//! Keys and values of the generated tokens, for the self-attention of one layer.

use tch::{TchError, Tensor};

/// Keys and values, `[2, rows, heads, steps, head dim]`.
#[derive(Debug)]
pub(crate) enum SelfAttentionCache {
    /// One entry for each token so far. `None` before the first token.
    ///
    /// Causality needs no mask, because later tokens are not in the cache.
    Growing(Option<Tensor>),
    /// Memory for the longest answer, at a fixed address.
    Fixed {
        key_value: Tensor,
        /// `[1]` of i64 on the device: position of this step's token.
        step: Tensor,
        /// `[1, 1, 1, mask width]`: mask of the positions after it.
        visible: Tensor,
    },
}

impl SelfAttentionCache {
    /// Adds this step's keys and values, `[2, rows, heads, 1, head dim]`.
    ///
    /// Returns all keys and values, and the mask of unused positions.
    pub(crate) fn append(&mut self, new: Tensor) -> Result<(Tensor, Option<&Tensor>), TchError> {
        match self {
            Self::Growing(cache) => {
                let all = match cache.take() {
                    Some(before) => Tensor::f_cat(&[before, new], 3)?,
                    None => new,
                };
                *cache = Some(all.shallow_clone());
                Ok((all, None))
            }
            Self::Fixed { key_value, step, visible } => {
                let all = key_value.f_index_copy_(3, step, &new)?;
                Ok((all, Some(visible)))
            }
        }
    }

    /// Returns whether the cache certainly has no token.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Growing(None))
    }

    /// Returns the cache of a single row expanded to `rows` rows, without a copy.
    pub(crate) fn for_rows(&self, rows: i64) -> Result<Self, TchError> {
        match self {
            Self::Growing(Some(cache)) => {
                cache.f_expand([-1, rows, -1, -1, -1], false).map(Some).map(Self::Growing)
            }
            other => Ok(other.shallow_clone()),
        }
    }

    /// Returns a cache that shares the tensors. Growing caches can then grow independently.
    pub(crate) fn shallow_clone(&self) -> Self {
        match self {
            Self::Growing(cache) => Self::Growing(cache.as_ref().map(Tensor::shallow_clone)),
            Self::Fixed { key_value, step, visible } => Self::Fixed {
                key_value: key_value.shallow_clone(),
                step: step.shallow_clone(),
                visible: visible.shallow_clone(),
            },
        }
    }

    /// Retains only the rows at `indices`. An index may repeat. Fixed memory does not change.
    pub(crate) fn retain(&mut self, indices: &Tensor) -> Result<(), TchError> {
        if let Self::Growing(cache) = self {
            *cache = cache.take().map(|cache| cache.f_index_select(1, indices)).transpose()?;
        }
        Ok(())
    }
}
