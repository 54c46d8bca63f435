//! What a thread of the pool decodes images with.

use std::{io, num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use blip::{Preprocessor, RgbView};
use images::{Decoder, Limits, RgbImage};
use tokio::time::Instant;

#[cfg(target_os = "linux")]
use crate::preprocess::decoding::process_decoder::ProcessDecoder;
use crate::{
    config::sections::preprocess::{DecodeIsolation, DecodeSettings},
    preprocess::{
        decoding::outcome::{DecodeFailure, DecodedImage},
        pool::{Interrupt, PoolWorker},
    },
};

/// Decodes the images of one thread.
#[derive(Debug)]
pub struct ImageDecoder(Mode);

#[derive(Debug)]
enum Mode {
    /// On the thread itself. A decode cannot be interrupted.
    Thread,
    /// In a worker process.
    #[cfg(target_os = "linux")]
    Process(Box<ProcessDecoder>),
}

impl ImageDecoder {
    /// Creates decoders for `threads` threads, for images within `limits`.
    ///
    /// Without a `worker` program, they decode on the threads.
    ///
    /// # Errors
    /// A worker process cannot be started.
    pub fn for_threads(
        threads: NonZeroUsize,
        settings: &DecodeSettings,
        limits: &Limits,
        worker: Option<&Path>,
    ) -> io::Result<Vec<Self>> {
        match (settings.decode_isolation, worker) {
            #[cfg(target_os = "linux")]
            (DecodeIsolation::Process, Some(program)) => {
                let workers = ProcessDecoder::start_all(program, threads, settings, limits)?;
                Ok(workers.into_iter().map(|worker| Self(Mode::Process(Box::new(worker)))).collect())
            }
            #[cfg(not(target_os = "linux"))]
            (DecodeIsolation::Process, Some(_)) => {
                let _ = limits;
                Err(io::Error::other("decode isolation by processes needs Linux"))
            }
            (DecodeIsolation::Process, None) | (DecodeIsolation::Thread, _) => Ok(Self::on_threads(threads)),
        }
    }

    /// Creates decoders that decode on `threads` threads themselves, without limits on time.
    #[must_use]
    pub fn on_threads(threads: NonZeroUsize) -> Vec<Self> {
        (0..threads.get()).map(|_| Self(Mode::Thread)).collect()
    }

    /// Decodes a file within the limits of `decoder`, and scales it to the size of `preprocessor`.
    ///
    /// Blocks the thread, possibly until other decodes release memory.
    ///
    /// # Errors
    /// A [`DecodeFailure`] for every file that is not decoded.
    pub fn decode(
        &mut self,
        file: &[u8],
        decoder: &Decoder,
        preprocessor: &Preprocessor,
        deadline: Option<Instant>,
    ) -> Result<DecodedImage, DecodeFailure> {
        match &mut self.0 {
            Mode::Thread => decode_on_thread(file, decoder, preprocessor),
            #[cfg(target_os = "linux")]
            Mode::Process(worker) => worker.decode(file, decoder, preprocessor, deadline),
        }
    }
}

impl PoolWorker for ImageDecoder {
    fn interrupt(&self) -> Arc<dyn Interrupt> {
        match &self.0 {
            Mode::Thread => Arc::new(Uninterruptible),
            #[cfg(target_os = "linux")]
            Mode::Process(worker) => worker.interrupt(),
        }
    }

    fn begin(&mut self) {
        match &mut self.0 {
            Mode::Thread => {}
            #[cfg(target_os = "linux")]
            Mode::Process(worker) => worker.wait_until_ready(),
        }
    }

    fn take_cpu_time(&mut self) -> Duration {
        match &mut self.0 {
            Mode::Thread => Duration::ZERO,
            #[cfg(target_os = "linux")]
            Mode::Process(worker) => worker.take_cpu_time(),
        }
    }
}

#[derive(Debug)]
struct Uninterruptible;

impl Interrupt for Uninterruptible {
    fn reset(&self) {}
    fn abandon(&self) {}
    fn stop(&self) {}
}

fn decode_on_thread(
    file: &[u8],
    decoder: &Decoder,
    preprocessor: &Preprocessor,
) -> Result<DecodedImage, DecodeFailure> {
    let begin = Instant::now();
    let RgbImage { width, height, data } = decoder.decode(file).map_err(DecodeFailure::Image)?;
    let decoded = Instant::now();
    let view = RgbView::new(width as usize, height as usize, &data)
        .map_err(|error| DecodeFailure::Worker(error.to_string()))?;
    let pixels = Arc::new(preprocessor.resize(view));
    Ok(DecodedImage { pixels, decode: decoded - begin, scale: decoded.elapsed() })
}
