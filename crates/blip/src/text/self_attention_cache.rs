//! The keys and values of the tokens that an answer has so far, for one layer's self-attention.

use tch::{TchError, Tensor};

/// Keys and values, `[2, rows, heads, steps, head dim]`.
#[derive(Debug)]
pub(crate) enum SelfAttentionCache {
    /// As long as the answers are; `None` before the first token. Causality needs no mask: a step sees what is there.
    Growing(Option<Tensor>),
    /// As long as answers can get, always in the same memory.
    Fixed {
        key_value: Tensor,
        /// `[1]` of i64 on the device: where this step's token goes.
        step: Tensor,
        /// `[1, 1, 1, steps]`: hides the places after it.
        visible: Tensor,
    },
}

impl SelfAttentionCache {
    /// Adds this step's keys and values, `[2, rows, heads, 1, head dim]`; returns all there are and what hides the rest.
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

    /// Whether it is known to hold no token.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Growing(None))
    }

    /// What one row has so far, for `rows` rows, each of which then goes its own way; nothing is copied.
    pub(crate) fn for_rows(&self, rows: i64) -> Result<Self, TchError> {
        match self {
            Self::Growing(Some(cache)) => {
                cache.f_expand([-1, rows, -1, -1, -1], false).map(Some).map(Self::Growing)
            }
            other => Ok(other.shallow_clone()),
        }
    }

    /// The same keys and values; growing ones then grow apart.
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

    /// Keeps only the rows at `indices`, each as often as it is named; rows of fixed memory stay where they are.
    pub(crate) fn retain(&mut self, indices: &Tensor) -> Result<(), TchError> {
        if let Self::Growing(cache) = self {
            *cache = cache.take().map(|cache| cache.f_index_select(1, indices)).transpose()?;
        }
        Ok(())
    }
}
