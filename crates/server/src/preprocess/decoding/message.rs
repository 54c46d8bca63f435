//! The messages between the server and its decode workers, in JSON.

use std::time::Duration;

use blip::preprocess::{Filter, PreprocessorConfig};
use images::{DecodeError, Limits};
use serde::{Deserialize, Serialize};

/// The subcommand of a program that decodes for a server.
pub const WORKER_COMMAND: &str = "decode-worker";

/// How an image is to be decoded and scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DecodeRequest {
    /// The limits on the image.
    pub(super) limits: Limits,
    /// Memory that the worker may use without a reservation, in bytes.
    pub(super) unreserved_bytes: u64,
    /// The size of the model's input.
    pub(super) target: ScaleTarget,
}

/// The size to which an image is scaled, and the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct ScaleTarget {
    width: usize,
    height: usize,
    is_bicubic: bool,
}

/// The result of a request. The pixels are in the shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum DecodeResponse {
    /// The image, with the time that each step took.
    Decoded { decode: Duration, scale: Duration },
    /// The reason why there is no image.
    Failed(DecodeError),
}

impl ScaleTarget {
    pub(super) fn of(config: &PreprocessorConfig) -> Self {
        let PreprocessorConfig { width, height, filter, .. } = *config;
        Self { width, height, is_bicubic: filter == Filter::Bicubic }
    }

    pub(super) fn config(self) -> PreprocessorConfig {
        let Self { width, height, is_bicubic } = self;
        let filter = if is_bicubic { Filter::Bicubic } else { Filter::Bilinear };
        PreprocessorConfig { width, height, filter, ..PreprocessorConfig::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_what_scaling_needs() {
        for filter in [Filter::Bicubic, Filter::Bilinear] {
            let config = PreprocessorConfig { width: 5, height: 7, filter, ..PreprocessorConfig::default() };
            assert_eq!(ScaleTarget::of(&config).config(), config);
        }
    }
}
