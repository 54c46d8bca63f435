//! Errors of LibTorch that tch turns into panics.
//!
//! A function of tch with a scalar argument frees the scalar before it reads LibTorch's error. The
//! function that frees it finds the error and panics, also where the caller expects a result (tch
//! 0.24). Rust prints such a panic on standard error, also if it is caught here.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use tch::TchError;

/// The text around LibTorch's message in such a panic, and its escape sequences.
const BEFORE: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"";
const AFTER: &str = "\")";
const LINE_END: &str = "\\n";
const QUOTE: &str = "\\\"";

/// Calls `work`, which uses tch. If tch panics for an error of LibTorch, returns the error.
///
/// What `work` changes must be valid after an early return.
pub(crate) fn return_torch_panics<T, E: From<TchError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| match torch_message(panic.as_ref()) {
        Some(message) => Err(TchError::Torch(message).into()),
        None => resume_unwind(panic),
    })
}

/// Returns the first line of LibTorch's message, if a panic has one.
fn torch_message(panic: &(dyn Any + Send)) -> Option<String> {
    let (_, message) = panic.downcast_ref::<String>()?.split_once(BEFORE)?;
    let message = message.strip_suffix(AFTER)?;
    let line = message.split_once(LINE_END).map_or(message, |(line, _)| line);
    Some(line.replace(QUOTE, "\""))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn failed_function_with_a_scalar_is_an_error() {
        let numbers = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let outside = Tensor::from_slice(&[7i64]);
        let result = return_torch_panics(|| numbers.f_scatter_value(0, &outside, 1.0));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("index 7 is out of bounds for dimension 0 with size 2"), "{error}");
        assert!(!error.contains(['\n', '\\']), "{error}");
    }

    #[test]
    fn message_is_the_first_line_without_escape_sequences() {
        for (text, line) in [
            ("CUDA error: out of memory\nframe #0: \"at::call\"", "CUDA error: out of memory"),
            ("\"clamp_cuda\" not implemented for \"Byte\"", "\"clamp_cuda\" not implemented for \"Byte\""),
            ("call(\"name\")", "call(\"name\")"),
        ] {
            let failed = || -> Result<(), TchError> { Err(TchError::Torch(text.to_owned())) };
            let panic = catch_unwind(|| failed().unwrap()).unwrap_err();
            assert_eq!(torch_message(panic.as_ref()).as_deref(), Some(line));
        }
    }

    #[test]
    fn results_errors_and_other_panics_are_unchanged() {
        let torch = |result: Result<u8, TchError>| return_torch_panics(|| result);
        assert_eq!(torch(Ok(1)).unwrap(), 1);
        let error = torch(Err(TchError::Shape("two rows".to_owned()))).unwrap_err();
        assert_eq!(error.to_string(), TchError::Shape("two rows".to_owned()).to_string());
        let other = catch_unwind(|| return_torch_panics(|| -> Result<u8, TchError> { panic!("no row") }));
        assert_eq!(other.unwrap_err().downcast_ref::<&str>(), Some(&"no row"));
    }
}
