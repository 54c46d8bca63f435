//! Residual + layer norm over tensors.

use std::rc::Rc;

use tch::{Device, Tensor};

use crate::{
    error::KernelError,
    fit::Fit,
    foreign::{self, Arguments, Function},
    source::{NormShape, ROWS_PER_BLOCK},
    stream::Stream,
};

const WARP: u32 = 32;

/// The kernels for one width and epsilon, on one device.
#[derive(Debug)]
pub struct NormKernels {
    fit: Fit,
    stream: Stream,
    pre_norm: Function,
    post_norm: Function,
}

impl NormKernels {
    /// Compiles for the CUDA device with this index, as it is, and loads what came of it.
    ///
    /// # Errors
    /// [`KernelError`] if NVRTC or the driver is not there, or refuses.
    pub fn compile(shape: NormShape, index: usize) -> Result<Self, KernelError> {
        let opened = foreign::Device::open(index)?;
        let stream = Stream::of_libtorch(index)?;
        let cubin = foreign::compile(shape, &opened.architecture()?)?;
        Self::load(Fit { shape, device: Device::Cuda(index) }, &opened, stream, &cubin)
    }

    /// Loads what was compiled for a device.
    pub(crate) fn load(
        fit: Fit,
        device: &foreign::Device,
        stream: Stream,
        cubin: &[u8],
    ) -> Result<Self, KernelError> {
        let [pre_norm, post_norm] = device.load(cubin, [c"pre_norm", c"post_norm"])?;
        Ok(Self { fit, stream, pre_norm, post_norm })
    }

    /// What they were compiled for.
    pub fn shape(&self) -> NormShape {
        self.fit.shape
    }

    /// The device that they were compiled for.
    pub fn device(&self) -> Device {
        self.fit.device
    }

    /// With the `weight` and `bias` of a layer norm, `[width]` each.
    ///
    /// # Errors
    /// [`KernelError::Unfit`] if the kernels were not compiled for them.
    pub fn with(self: &Rc<Self>, weight: &Tensor, bias: &Tensor) -> Result<AddNorm, KernelError> {
        self.fit.parameter("weight", weight)?;
        self.fit.parameter("bias", bias)?;
        Ok(AddNorm { kernels: Rc::clone(self), weight: weight.shallow_clone(), bias: bias.shallow_clone() })
    }
}

/// A layer norm of a sum, in one kernel.
///
/// Runs where LibTorch's next operator would: on its current stream, so that its allocator knows when memory is free again, and
/// a graph that is being captured takes the kernel in.
#[derive(Debug)]
pub struct AddNorm {
    kernels: Rc<NormKernels>,
    weight: Tensor,
    bias: Tensor,
}

impl AddNorm {
    /// Adds `delta` to `states` where they lie, both `[.., width]`; returns the norm of the sum, of the same shape.
    ///
    /// # Errors
    /// [`KernelError`] if a tensor does not fit, or the driver refuses.
    pub fn add_then_norm(&self, states: &mut Tensor, delta: &Tensor) -> Result<Tensor, KernelError> {
        let rows = self.kernels.fit.rows(states, delta)?;
        let normed = states.f_empty_like()?;
        self.launch(&self.kernels.pre_norm, [states, delta, &normed], rows)?;
        Ok(normed)
    }

    /// The norm of `output + residual`, both `[.., width]`, in the place of `output`; the sum is not kept.
    ///
    /// # Errors
    /// As [`Self::add_then_norm`].
    pub fn norm_of_sum(&self, output: Tensor, residual: &Tensor) -> Result<Tensor, KernelError> {
        let rows = self.kernels.fit.rows(&output, residual)?;
        self.launch(&self.kernels.post_norm, [&output, residual, &output], rows)?;
        Ok(output)
    }

    fn launch(
        &self,
        kernel: &Function,
        [states, delta, normed]: [&Tensor; 3],
        rows: i64,
    ) -> Result<(), KernelError> {
        let blocks = u32::try_from(rows.unsigned_abs().div_ceil(u64::from(ROWS_PER_BLOCK)));
        let blocks = blocks.map_err(|error| KernelError::Driver(error.to_string()))?;
        if blocks == 0 {
            return Ok(());
        }
        let stream = self.kernels.stream.current()?;
        let arguments = Arguments { states, delta, weight: &self.weight, bias: &self.bias, normed, rows };
        kernel.launch((blocks, ROWS_PER_BLOCK * WARP), stream, &arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Storage;

    #[test]
    fn a_machine_without_cuda_is_told_what_it_lacks() {
        let shape = NormShape::new(768, 1e-5, Storage::Half).unwrap();
        // Such a device is on no machine.
        let error = NormKernels::compile(shape, 1000).unwrap_err();
        let of_the_machine = matches!(
            error,
            KernelError::Stream(_) | KernelError::NoDriver | KernelError::NoCompiler | KernelError::Driver(_)
        );
        assert!(of_the_machine, "{error}");
        let error = foreign::Device::open(1000).map(drop).unwrap_err();
        assert!(matches!(error, KernelError::NoDriver | KernelError::Driver(_)), "{error}");
    }
}
