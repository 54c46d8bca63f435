//! Decodes images in a worker process.

use std::{io, num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use blip::{Pixels, Preprocessor, preprocess::PreprocessorConfig};
use images::{DecodeError, Decoder, Limits};
use sandbox::{
    Answer, Call, CallError, Cancellation, MemoryBudget, Outcome, ProcessConfig, Worker, WorkerConfig,
};
use tokio::time::Instant;

use crate::{
    config::sections::preprocess::DecodeSettings,
    preprocess::{
        decoding::{
            message::{DecodeRequest, DecodeResponse, ScaleTarget, WORKER_COMMAND},
            observer,
            outcome::{DecodeFailure, DecodedImage},
        },
        pool::Interrupt,
    },
};

/// The largest share of the memory budget that a worker uses without asking, in bytes. It is
/// enough for most images, and saves them a message.
const MAX_UNRESERVED_BYTES: u64 = 16 << 20;

/// The output of the largest model, in bytes.
const MAX_OUTPUT_BYTES: usize = 3 * PreprocessorConfig::MAX_SIDE * PreprocessorConfig::MAX_SIDE;

/// Environment of a worker: mimalloc counts memory towards the limit only when it is in use.
const VARIABLES: [(&str, &str); 1] = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

/// The worker process of one thread.
#[derive(Debug)]
pub(super) struct ProcessDecoder {
    worker: Worker,
    cancellation: Arc<Cancellation>,
    unreserved_bytes: u64,
    cpu_time: Duration,
}

impl ProcessDecoder {
    /// Starts one worker process for each of `threads` threads. They decode images within `limits`.
    pub(super) fn start_all(
        program: &Path,
        threads: NonZeroUsize,
        settings: &DecodeSettings,
        limits: &Limits,
    ) -> io::Result<Vec<Self>> {
        let threads = threads.get();
        let total = limits.max_decode_bytes_in_flight;
        let workers = u64::try_from(threads).unwrap_or(u64::MAX);
        // Half of the budget at most is spent without asking.
        let unreserved_bytes = (total / workers.saturating_mul(2)).min(MAX_UNRESERVED_BYTES);
        let config = WorkerConfig {
            process: ProcessConfig {
                program: program.to_owned(),
                arguments: vec![WORKER_COMMAND.to_owned()],
                variables: VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
                max_memory_bytes: settings.decode_max_memory_bytes,
            },
            max_cpu: Duration::from_millis(settings.decode_max_cpu_ms.get()),
            shared_bytes: limits.max_bytes.saturating_add(MAX_OUTPUT_BYTES).next_multiple_of(1 << 16),
            budget: Arc::new(MemoryBudget::new(total - workers * unreserved_bytes)),
            observer: observer::observer(),
        };
        let start = |_| {
            let (worker, cancellation) = (Worker::new(config.clone())?, Arc::new(Cancellation::new()?));
            Ok(Self { worker, cancellation, unreserved_bytes, cpu_time: Duration::ZERO })
        };
        (0..threads).map(start).collect()
    }

    pub(super) fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::clone(&self.cancellation) as Arc<dyn Interrupt>
    }

    pub(super) fn wait_until_ready(&mut self) {
        self.worker.wait_until_ready(&self.cancellation);
    }

    /// Returns the CPU time that the process has used since the last call of this function.
    pub(super) fn take_cpu_time(&mut self) -> Duration {
        std::mem::take(&mut self.cpu_time)
    }

    /// Has the process decode and scale a file, within the limits of `decoder`.
    pub(super) fn decode(
        &mut self,
        file: &[u8],
        decoder: &Decoder,
        preprocessor: &Preprocessor,
        deadline: Option<Instant>,
    ) -> Result<DecodedImage, DecodeFailure> {
        // A file that the process would refuse at once is not sent.
        decoder.check(file).map_err(DecodeFailure::Image)?;
        let request = DecodeRequest {
            limits: *decoder.limits(),
            unreserved_bytes: self.unreserved_bytes,
            target: ScaleTarget::of(preprocessor.config()),
        };
        let call = Call {
            header: &serde_json::to_vec(&request).map_err(worker_failure)?,
            input: file,
            deadline: deadline.map(Instant::into_std),
            cancellation: &self.cancellation,
        };
        let Outcome { result, cpu } = self.worker.call(call);
        self.cpu_time += cpu;
        let Answer { header, output } = result.map_err(|error| failure(error, cpu))?;
        match serde_json::from_slice(&header).map_err(worker_failure)? {
            DecodeResponse::Failed(error) => Err(DecodeFailure::Image(error)),
            DecodeResponse::Decoded { decode, scale } => {
                let (height, width) = (preprocessor.height(), preprocessor.width());
                let pixels = Pixels::new(height, width, output).map_err(worker_failure)?;
                Ok(DecodedImage { pixels: Arc::new(pixels), decode, scale })
            }
        }
    }
}

impl Interrupt for Cancellation {
    fn reset(&self) {
        self.reset();
    }

    fn abandon(&self) {
        self.abandon();
    }

    fn stop(&self) {
        self.stop();
    }
}

fn failure(error: CallError, spent: Duration) -> DecodeFailure {
    match error {
        CallError::CpuLimit { limit } => DecodeFailure::CpuLimit { spent, limit },
        CallError::MemoryLimit { limit } => DecodeFailure::MemoryLimit { limit },
        CallError::Deadline => DecodeFailure::Deadline,
        CallError::InputTooLarge { bytes, limit } => {
            DecodeFailure::Image(DecodeError::TooManyBytes { bytes, limit })
        }
        CallError::Cancelled | CallError::Crashed { .. } | CallError::Unavailable { .. } => {
            worker_failure(error)
        }
    }
}

fn worker_failure(error: impl ToString) -> DecodeFailure {
    DecodeFailure::Worker(error.to_string())
}
