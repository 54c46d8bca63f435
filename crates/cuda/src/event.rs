//! Events in a stream, for times on the device.

use std::time::Duration;

use tch::TchError;

use crate::{error::CudaError, ffi::libtorch::RawEvent, stream::CudaStreams};

/// A position in the work of a stream.
#[derive(Debug)]
pub struct Event(RawEvent);

impl CudaStreams {
    /// Records an event on the current stream of `device`, behind all work of this thread.
    ///
    /// The call does not wait for the device. A capture would record the event into its graph, so
    /// the caller must not call this during a capture.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn record_event(self, device: usize) -> Result<Event, CudaError> {
        self.functions.record_event(device).map(Event)
    }
}

impl Event {
    /// Waits until the device reaches this event. Returns the device's time since `earlier`, an
    /// event of the same device.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`], also if `earlier` is the later event.
    pub fn since(&self, earlier: &Self) -> Result<Duration, CudaError> {
        let milliseconds = self.0.milliseconds_since(&earlier.0)?;
        Duration::try_from_secs_f64(milliseconds / 1e3)
            .map_err(|error| TchError::Convert(error.to_string()).into())
    }
}
