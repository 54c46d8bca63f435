//! oneDNN's linear layers, on 8-bit integers and in f32, which LibTorch has and `tch` does not show.
//!
//! It is reached through the C interface that LibTorch keeps stable for compiled models (`aoti_torch_*`), so that no
//! C++ of ours is needed. What goes wrong is told by a number there; the words go to the standard error output.
#![expect(unsafe_code, reason = "calls LibTorch's C interface, which tch does not wrap")]

use std::{
    ffi::{CStr, c_char, c_double},
    ptr,
};

use tch::{Kind, TchError, Tensor};
use torch_sys::C_tensor;

/// LibTorch's number for `float32`.
static FLOAT32: i32 = 6;

unsafe extern "C" {
    /// Makes a handle of its own for the same tensor.
    fn aoti_torch_new_tensor_handle(tensor: *const C_tensor, copy: *mut *mut C_tensor) -> i32;

    /// Calls the operator `name`: takes its arguments out of `stack` and leaves its results there.
    fn aoti_torch_call_dispatcher(name: *const c_char, overload: *const c_char, stack: *mut u64) -> i32;

    fn aoti_torch_cpu__linear_pointwise(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const *const C_tensor,
        after: *const c_char,
        after_arguments: *const *const c_double,
        after_argument_count: i64,
        after_algorithm: *const *const c_char,
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
        after: *const c_char,
        after_arguments: *const *const c_double,
        after_argument_count: i64,
        after_algorithm: *const c_char,
        output: *mut *mut C_tensor,
    ) -> i32;
}

/// The weight of a linear layer in f32, laid out as this machine's kernels read it.
#[derive(Debug)]
pub(crate) struct PackedFloatWeight(Tensor);

/// What becomes of a product before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Nothing,
    /// The exact (erf) GELU.
    Gelu,
}

impl PackedFloatWeight {
    /// Packs `weight` `[out, in]` of f32.
    pub(crate) fn new(weight: &Tensor) -> Result<Self, TchError> {
        pack(c"mkldnn::_reorder_linear_weight", weight).map(Self)
    }

    /// `input` `[.., in]` times the weight, with `bias` `[out]` added: `[.., out]`.
    pub(crate) fn multiply(&self, input: &Tensor, bias: &Tensor, after: After) -> Result<Tensor, TchError> {
        let (attribute, algorithm) = match after {
            After::Nothing => (c"none", c""),
            After::Gelu => (c"gelu", c"none"),
        };
        let (bias, algorithm) = (bias.as_ptr(), algorithm.as_ptr());
        let mut output = ptr::null_mut();
        // SAFETY: every tensor lives through the call and is left to its owner; the empty list is null, as the interface has
        // it; the strings end in 0. The call writes an owned handle to `output`.
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
        succeeded(done, c"mkldnn::_linear_pointwise")?;
        // SAFETY: the call succeeded, so this is a handle of ours to an `at::Tensor` of the heap.
        Ok(unsafe { Tensor::from_ptr(output) })
    }
}

/// Calls the operator `name`, whose schema is `(Tensor weight, something optional) -> Tensor`, leaving the second out.
fn pack(name: &CStr, weight: &Tensor) -> Result<Tensor, TchError> {
    let mut handle = ptr::null_mut();
    // SAFETY: the tensor lives through the call, which writes a handle of its own to `handle`.
    let copied = unsafe { aoti_torch_new_tensor_handle(weight.as_ptr(), &raw mut handle) };
    succeeded(copied, c"aoti_torch_new_tensor_handle")?;
    // The operator's arguments; the call takes both and leaves the one result in the first place.
    let mut stack = [handle as u64, 0];
    // SAFETY: the stack holds what the operator's schema calls for: a handle that the call frees, and the absent option as 0.
    let packed = unsafe { aoti_torch_call_dispatcher(name.as_ptr(), c"".as_ptr(), stack.as_mut_ptr()) };
    succeeded(packed, name)?;
    let [packed, _] = stack;
    // SAFETY: the call succeeded, so the first place holds a handle that is now ours. Such a handle points to an
    // `at::Tensor` of the heap, as tch's own do.
    Ok(unsafe { Tensor::from_ptr(packed as *mut C_tensor) })
}

/// The weight of a linear layer in 8-bit integers, laid out as this machine's kernels read it.
#[derive(Debug)]
pub(crate) struct PackedWeight {
    packed: Tensor,
    /// `[out]` in f32.
    scales: Tensor,
    /// `[out]` of zeros: the weights lie evenly around 0.
    zero_points: Tensor,
    /// `[1]` of ones.
    input_scale: Tensor,
    /// `[1]`: the input's number that stands for 0.
    input_zero_point: Tensor,
}

impl PackedWeight {
    /// Packs `weight` `[out, in]` of i8; row `o` stands for `weight[o] * scales[o]`.
    ///
    /// Inputs will be u8, with `input_zero_point` standing for 0.
    pub(crate) fn new(weight: &Tensor, scales: &Tensor, input_zero_point: i32) -> Result<Self, TchError> {
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

    /// The product of `input` `[rows, in]` of u8 with the weight: `[rows, out]` in f32.
    pub(crate) fn multiply(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = ptr::null_mut();
        // SAFETY: every tensor lives through the call and is left to its owner; the absent bias and the empty list
        // are null, as the interface has it; the strings end in 0. The call writes an owned handle to `output`.
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
        succeeded(done, c"onednn::qlinear_pointwise")?;
        // SAFETY: the call succeeded, so this is a handle of ours to an `at::Tensor` of the heap.
        Ok(unsafe { Tensor::from_ptr(output) })
    }
}

fn succeeded(code: i32, name: &CStr) -> Result<(), TchError> {
    match code {
        0 => Ok(()),
        _ => {
            Err(TchError::Torch(format!("{} failed, see the standard error output", name.to_string_lossy())))
        }
    }
}
