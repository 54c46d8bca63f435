//! Compares the kernel with LibTorch's operators on the device for which it was compiled.

use tch::{Kind, Tensor};

use super::kernel::ChoiceKernel;
use crate::{error::CudaError, random::random_normal};

/// Rows of a check.
const ROWS: i64 = 3;

/// The largest difference of two correct logarithms of the same sum. The sum has up to 2^24 terms,
/// which two computations add in different orders.
const TOLERANCE: f64 = 1e-4;

impl ChoiceKernel {
    /// Runs the kernel on random logits of `vocabulary` tokens and compares its table with
    /// LibTorch's operators.
    ///
    /// The logits must be equal to the bit, and the token must have the best one. The logarithm may
    /// differ by the order of additions. The call waits for the device.
    ///
    /// # Errors
    /// [`CudaError::SelfCheck`] if the results differ, or the error of a failed call.
    pub fn check(&self, vocabulary: i64) -> Result<(), CudaError> {
        let _no_grad = tch::no_grad_guard();
        let logits = random_normal(&[ROWS, vocabulary], self.storage().kind(), self.device())?;
        let logits = logits.f_mul_scalar(4.0)?;
        compare(&self.choose(&logits)?, &logits)
    }
}

/// Checks a table of the kernel.
fn compare(table: &Tensor, logits: &Tensor) -> Result<(), CudaError> {
    let failed =
        |difference: &str| Err(CudaError::SelfCheck { kernel: "choose", difference: difference.to_owned() });
    let logits = logits.f_to_kind(Kind::Float)?;
    let column = |index, columns| table.f_narrow(1, index, columns);
    let (best_two, _) = logits.f_topk(2, -1, true, true)?;
    if !column(0, 2)?.f_equal(&best_two)? {
        return failed("logits differ");
    }
    let tokens = column(2, 1)?.f_to_kind(Kind::Int64)?;
    let is_token = tokens.f_ge(0)?.f_logical_and(&tokens.f_lt(logits.size2()?.1)?)?;
    if !is_token.f_all()?.f_int64_value(&[]).is_ok_and(|all| all != 0) {
        return failed("token outside the vocabulary");
    }
    if !logits.f_gather(1, &tokens, false)?.f_equal(&best_two.f_narrow(1, 0, 1)?)? {
        return failed("token differs");
    }
    let total = logits.f_logsumexp(-1, true)?;
    let error = column(3, 1)?.f_sub(&total)?.f_abs()?.f_max()?.f_double_value(&[])?;
    // The comparison is false for NaN, so NaN fails the check.
    if error <= TOLERANCE { Ok(()) } else { failed(&format!("logarithm differs by {error:.1e}")) }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn compare_finds_a_wrong_number_in_each_column() {
        let logits = Tensor::randn([ROWS, 50], (Kind::Float, Device::Cpu));
        let (best_two, tokens) = logits.topk(2, -1, true, true);
        let tokens = tokens.narrow(1, 0, 1).to_kind(Kind::Float);
        let table = Tensor::cat(&[best_two, tokens, logits.logsumexp(-1, true)], 1);
        compare(&table, &logits).unwrap();
        for (column, wrong, message) in [
            (0, 9.0, "logits differ"),
            (1, f64::NAN, "logits differ"),
            (2, 50.0, "token outside the vocabulary"),
            (2, -1.0, "token outside the vocabulary"),
            (3, 9.0, "logarithm differs"),
            (3, f64::NAN, "logarithm differs"),
        ] {
            let changed = table.copy();
            let _cell = changed.get(1).get(column).fill_(wrong);
            let error = compare(&changed, &logits).unwrap_err().to_string();
            assert!(error.contains(message), "column {column}: {error}");
        }
        let changed = table.copy();
        let mut best = changed.get(0).get(2);
        best.copy_(&(best.copy() + 1.0).remainder(50.0));
        assert!(compare(&changed, &logits).unwrap_err().to_string().contains("token differs"));
    }
}
