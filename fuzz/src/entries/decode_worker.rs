//! The decode worker: a separate process with limits.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    sync::{LazyLock, Mutex, OnceLock},
};

use blip::{Preprocessor, preprocess::PreprocessorConfig};
use blip_server::{
    config::{Settings, sections::preprocess::DecodeSettings},
    preprocess::decoding::{DecodeFailure, image_decoder::ImageDecoder},
};
use images::{Decoder, Limits};

/// The program whose subcommand `decode-worker` is a decode worker.
pub static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The CPU time that an image may take, in milliseconds.
const MAX_CPU_MS: NonZeroU64 = NonZeroU64::MIN.saturating_add(999);

/// The memory that an image may take, in bytes.
const MAX_MEMORY_BYTES: u64 = 300 << 20;

/// A small limit on pixels, so that the fuzzer decodes many images instead of large ones.
static LIMITS: LazyLock<Limits> = LazyLock::new(|| Limits { max_pixels: 1 << 20, ..Limits::default() });

static WORKER: LazyLock<Mutex<ImageDecoder>> = LazyLock::new(|| {
    let settings = DecodeSettings {
        decode_max_cpu_ms: MAX_CPU_MS,
        decode_max_memory_bytes: MAX_MEMORY_BYTES,
        ..Settings::default().decode
    };
    let program = PROGRAM.get().map(PathBuf::as_path);
    assert!(program.is_some(), "no program for decode workers");
    let workers = ImageDecoder::for_threads(NonZeroUsize::MIN, &settings, &LIMITS, program);
    Mutex::new(workers.unwrap().remove(0))
});

static PREPROCESSOR: LazyLock<Preprocessor> = LazyLock::new(|| {
    Preprocessor::new(PreprocessorConfig { width: 32, height: 24, ..PreprocessorConfig::default() })
});

/// Decodes and scales an image in a worker process, and then on this thread. The process stays
/// within its limits, and both results are equal.
pub fn decode_worker(bytes: &[u8]) -> bool {
    let decoder = Decoder::new(*LIMITS);
    let in_process = WORKER.lock().unwrap().decode(bytes, &decoder, &PREPROCESSOR, None);
    let is_refused = matches!(in_process, Err(DecodeFailure::Image(_)));
    assert!(in_process.is_ok() || is_refused, "{in_process:?}");
    let mut thread = ImageDecoder::on_threads(NonZeroUsize::MIN).remove(0);
    let on_thread = thread.decode(bytes, &decoder, &PREPROCESSOR, None);
    let [in_process, on_thread] = [in_process, on_thread].map(|image| image.ok().map(|image| image.pixels));
    assert_eq!(in_process, on_thread);
    on_thread.is_some()
}
