//! oneDNN's linear layers in f32. LibTorch has them, but `tch` does not expose them.
//!
//! This module calls LibTorch's C interface for compiled models (`aoti_torch_*`). It is stable
//! and needs no C++ in this crate. A call returns an error code, and LibTorch
//! writes the message to the standard error output.
#![expect(unsafe_code, reason = "calls LibTorch's C interface, which tch does not wrap")]

use std::{
    ffi::{CStr, c_char, c_double},
    ptr,
};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    /// Creates a second handle of the same tensor.
    fn aoti_torch_new_tensor_handle(tensor: *const C_tensor, copy: *mut *mut C_tensor) -> i32;

    /// Calls the operator `name`. It takes its arguments from `stack` and writes its results to
    /// `stack`.
    fn aoti_torch_call_dispatcher(name: *const c_char, overload: *const c_char, stack: *mut u64) -> i32;

    fn aoti_torch_cpu__linear_pointwise(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const *const C_tensor,
        post_op: *const c_char,
        post_op_arguments: *const *const c_double,
        post_op_argument_count: i64,
        post_op_algorithm: *const *const c_char,
        output: *mut *mut C_tensor,
    ) -> i32;
}

/// The weight of a linear layer in f32, in the layout that oneDNN selects for this processor.
#[derive(Debug)]
pub(super) struct PackedFloatWeight(Tensor);

/// Operation on a product before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PostOp {
    /// No operation.
    None,
    /// The exact (erf) GELU.
    Gelu,
}

impl PackedFloatWeight {
    /// Packs `weight` `[out, in]` of f32.
    pub(super) fn new(weight: &Tensor) -> Result<Self, TchError> {
        pack(c"mkldnn::_reorder_linear_weight", weight).map(Self)
    }

    /// Returns `input` `[.., in]` times the weight plus `bias` `[out]`, `[.., out]`, after
    /// `post_op`.
    pub(super) fn multiply(
        &self,
        input: &Tensor,
        bias: &Tensor,
        post_op: PostOp,
    ) -> Result<Tensor, TchError> {
        let (attribute, algorithm) = match post_op {
            PostOp::None => (c"none", c""),
            PostOp::Gelu => (c"gelu", c"none"),
        };
        let (bias, algorithm) = (bias.as_ptr(), algorithm.as_ptr());
        let mut output = ptr::null_mut();
        // SAFETY: every tensor outlives the call, which does not take ownership. The empty list is
        // null, as the interface requires. The strings end in 0. The call writes an owned handle to
        // `output`.
        let done = unsafe {
            aoti_torch_cpu__linear_pointwise(
                input.as_ptr(),
                self.0.as_ptr(),
                &raw const bias,
                attribute.as_ptr(),
                ptr::null(),
                0,
                &raw const algorithm,
                &raw mut output,
            )
        };
        check_code(done, c"mkldnn::_linear_pointwise")?;
        // SAFETY: the call succeeded, so `output` is an owned handle of an `at::Tensor` on the
        // heap.
        Ok(unsafe { Tensor::from_ptr(output) })
    }
}

/// Calls the operator `name` with the schema `(Tensor weight, optional) -> Tensor`, without the
/// optional argument.
fn pack(name: &CStr, weight: &Tensor) -> Result<Tensor, TchError> {
    let mut handle = ptr::null_mut();
    // SAFETY: the tensor outlives the call, which writes an owned handle to `handle`.
    let copied = unsafe { aoti_torch_new_tensor_handle(weight.as_ptr(), &raw mut handle) };
    check_code(copied, c"aoti_torch_new_tensor_handle")?;
    // The arguments of the operator. The call takes both, and writes the result to the first place.
    let mut stack = [handle as u64, 0];
    // SAFETY: the stack matches the operator's schema: a handle that the call frees, and the absent
    // option as 0.
    let packed = unsafe { aoti_torch_call_dispatcher(name.as_ptr(), c"".as_ptr(), stack.as_mut_ptr()) };
    check_code(packed, name)?;
    let [packed, _] = stack;
    // SAFETY: the call succeeded, so the first place holds an owned handle. It points to an
    // `at::Tensor` on the heap, as the handles of tch do.
    Ok(unsafe { Tensor::from_ptr(packed as *mut C_tensor) })
}

fn check_code(code: i32, name: &CStr) -> Result<(), TchError> {
    match code {
        0 => Ok(()),
        _ => {
            Err(TchError::Torch(format!("{} failed, see the standard error output", name.to_string_lossy())))
        }
    }
}
