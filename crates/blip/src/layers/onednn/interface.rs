//! oneDNN's linear layers in f32 and in 8-bit integers. LibTorch has them, but `tch` does not
//! expose them.
//!
//! This module calls LibTorch's C interface for compiled models (`aoti_torch_*`). It is stable
//! and needs no C++ in this crate. A call returns an error code, and LibTorch
//! writes the message to the standard error output.
#![expect(unsafe_code, reason = "calls LibTorch's C interface, which tch does not wrap")]

use std::{
    ffi::{CStr, c_char, c_double},
    ptr,
};

use tch::{Kind, TchError, Tensor};
use torch_sys::C_tensor;

/// LibTorch's code of `float32`.
static FLOAT32: i32 = 6;

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

    fn aoti_torch_cpu__qlinear_pointwise_tensor(
        input: *const C_tensor,
        input_scale: *const C_tensor,
        input_zero_point: *const C_tensor,
        weight: *const C_tensor,
        weight_scales: *const C_tensor,
        weight_zero_points: *const C_tensor,
        bias: *const *const C_tensor,
        output_scale: c_double,
        output_zero_point: i64,
        output_kind: *const i32,
        post_op: *const c_char,
        post_op_arguments: *const *const c_double,
        post_op_argument_count: i64,
        post_op_algorithm: *const c_char,
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

/// The weight of a linear layer in 8-bit integers, in the layout that oneDNN selects for this
/// processor.
#[derive(Debug)]
pub(super) struct PackedWeight {
    packed: Tensor,
    /// `[out]` in f32.
    scales: Tensor,
    /// `[out]` of zeros, because the weights are symmetric around 0.
    zero_points: Tensor,
    /// `[1]` of ones.
    input_scale: Tensor,
    /// `[1]`: the input value that represents 0.
    input_zero_point: Tensor,
}

impl PackedWeight {
    /// Packs `weight` `[out, in]` of i8. Row `o` represents `weight[o] * scales[o]`.
    ///
    /// Inputs are u8, where `input_zero_point` represents 0.
    pub(super) fn new(weight: &Tensor, scales: &Tensor, input_zero_point: i32) -> Result<Self, TchError> {
        let zero_points = Tensor::f_zeros([weight.size2()?.0], (Kind::Int64, weight.device()))?;
        let packed = pack(c"onednn::qlinear_prepack", weight)?;
        Ok(Self {
            packed,
            scales: scales.shallow_clone(),
            zero_points,
            input_scale: Tensor::f_from_slice(&[1f32])?,
            input_zero_point: Tensor::f_from_slice(&[input_zero_point])?,
        })
    }

    /// Returns the product of `input` `[rows, in]` of u8 and the weight, `[rows, out]` in f32.
    pub(super) fn multiply(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = ptr::null_mut();
        // SAFETY: every tensor outlives the call, which does not take ownership. The absent bias
        // and the empty list are null, as the interface requires. The strings end in 0. The call
        // writes an owned handle to `output`.
        let done = unsafe {
            aoti_torch_cpu__qlinear_pointwise_tensor(
                input.as_ptr(),
                self.input_scale.as_ptr(),
                self.input_zero_point.as_ptr(),
                self.packed.as_ptr(),
                self.scales.as_ptr(),
                self.zero_points.as_ptr(),
                ptr::null(),
                1.0,
                0,
                &raw const FLOAT32,
                c"none".as_ptr(),
                ptr::null(),
                0,
                c"".as_ptr(),
                &raw mut output,
            )
        };
        check_code(done, c"onednn::qlinear_pointwise")?;
        // SAFETY: the call succeeded, so `output` is an owned handle of an `at::Tensor` on the
        // heap.
        Ok(unsafe { Tensor::from_ptr(output) })
    }
}

fn check_code(code: i32, name: &CStr) -> Result<(), TchError> {
    match code {
        0 => Ok(()),
        _ => {
            Err(TchError::Torch(format!("{} failed, see the standard error output", name.to_string_lossy())))
        }
    }
}
