//! In place of AVX-512 VNNI, which other processors do not have.

use crate::{
    int8::{Int8Linear, Int8Scratch},
    linear::After,
};

/// The proof of what is not so.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Vnni {}

impl Vnni {
    pub(crate) fn try_new() -> Option<Self> {
        None
    }

    /// Never called.
    pub(crate) fn forward(self, _: &Int8Linear, _: &[f32], _: &mut [f32], _: After, _: &mut Int8Scratch) {
        match self {}
    }
}
