//! The main function of a decode worker: a process that decodes and scales images.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use blip::{Preprocessor, RgbView};
use images::{DecodeError, Decoder, Limits, RgbImage};
use sandbox::{Request, Reservations, Response, WorkerProcess};
use tokio::time::Instant;

use crate::preprocess::decoding::{
    message::{DecodeRequest, DecodeResponse, ScaleTarget},
    worker_memory::{exit_when_out_of_memory, return_free_memory},
};

/// How many sizes of models a worker keeps filter weights for.
const MAX_TARGETS: usize = 8;

/// Decodes the images that the server sends, until the server closes the socket.
///
/// # Errors
/// The process was not started by a server, or it cannot be limited.
pub fn run() -> std::io::Result<()> {
    exit_when_out_of_memory();
    let process = WorkerProcess::start()?;
    let mut worker = DecodeWorker::new(process.reservations());
    process.run(move |request| worker.answer(request))
}

/// The decoder of a worker process, and the scalers of the models that have asked.
struct DecodeWorker {
    reservations: Reservations,
    /// Whether the current image has reserved memory.
    has_reserved: Arc<AtomicBool>,
    decoder: Option<(Limits, u64, Decoder)>,
    preprocessors: HashMap<ScaleTarget, Preprocessor>,
}

impl DecodeWorker {
    fn new(reservations: Reservations) -> Self {
        let has_reserved = Arc::default();
        Self { reservations, has_reserved, decoder: None, preprocessors: HashMap::new() }
    }

    fn answer(&mut self, Request { header, input, output }: Request<'_>) -> Response {
        // The server does not send anything else.
        let Ok(request) = serde_json::from_slice(header) else {
            return Response { header: Vec::new(), output_bytes: 0 };
        };
        let (response, output_bytes) = match self.decode(&request, input, output) {
            Ok((response, output_bytes)) => (response, output_bytes),
            Err(error) => (DecodeResponse::Failed(error.with_short_reason()), 0),
        };
        // The response ends the reservation, so the memory must be free by then.
        if self.has_reserved.swap(false, Relaxed) {
            return_free_memory();
        }
        Response { header: serde_json::to_vec(&response).unwrap_or_default(), output_bytes }
    }

    fn decode(
        &mut self,
        request: &DecodeRequest,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(DecodeResponse, usize), DecodeError> {
        let begin = Instant::now();
        let RgbImage { width, height, data } = self.decoder(request).decode(input)?;
        let decoded = Instant::now();
        let scaled = RgbView::new(width as usize, height as usize, &data)
            .ok()
            .and_then(|image| self.preprocessor(request.target).resize_into(image, output));
        // The decoder returns whole images, and the server provides memory for the largest model.
        let output_bytes = scaled.unwrap_or_default();
        let [decode, scale] = [decoded - begin, decoded.elapsed()];
        Ok((DecodeResponse::Decoded { decode, scale }, output_bytes))
    }

    fn decoder(&mut self, request: &DecodeRequest) -> &Decoder {
        let DecodeRequest { limits, unreserved_bytes, .. } = *request;
        if self
            .decoder
            .as_ref()
            .is_none_or(|(known, bytes, _)| (*known, *bytes) != (limits, unreserved_bytes))
        {
            self.decoder = None;
        }
        let (reservations, has_reserved) = (&self.reservations, &self.has_reserved);
        let (_, _, decoder) = self.decoder.get_or_insert_with(|| {
            let (reservations, has_reserved) = (reservations.clone(), Arc::clone(has_reserved));
            let reserve = move |bytes| {
                bytes <= unreserved_bytes || {
                    has_reserved.store(true, Relaxed);
                    reservations.reserve(bytes)
                }
            };
            (limits, unreserved_bytes, Decoder::with_reservations(limits, Arc::new(reserve)))
        });
        decoder
    }

    fn preprocessor(&mut self, target: ScaleTarget) -> &Preprocessor {
        if self.preprocessors.len() >= MAX_TARGETS && !self.preprocessors.contains_key(&target) {
            self.preprocessors.clear();
        }
        self.preprocessors.entry(target).or_insert_with(|| Preprocessor::new(target.config()))
    }
}
