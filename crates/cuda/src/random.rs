//! Random tensors for the checks of kernels.
#![expect(clippy::disallowed_methods, reason = "a check may wait for the device")]

use tch::{Device, Kind, TchError, Tensor};

/// Returns normally distributed numbers.
///
/// The CPU makes them. LibTorch's random numbers of a device must not be used while another thread
/// captures a graph on it.
pub(crate) fn random_normal(size: &[i64], kind: Kind, device: Device) -> Result<Tensor, TchError> {
    Tensor::f_randn(size, (kind, Device::Cpu))?.f_to_device(device)
}
