//! Linear layers whose product also computes GELU.

use tch::Tensor;

use crate::{error::CudaError, stream::CudaStreams};

impl CudaStreams {
    /// Returns the GELU of `input weight^T + bias` for `input` `[rows, in]`, as `[rows, out]`.
    ///
    /// On CUDA, cuBLASLt computes the tanh form of GELU where it writes the product.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn linear_gelu(self, input: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, CudaError> {
        self.functions.linear_gelu([input, weight, bias])
    }
}
