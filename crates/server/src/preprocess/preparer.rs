//! Preprocessing of inputs: image files become pixels at the size of the model, texts become token
//! ids.
//!
//! The work runs on the CPU pool and never on an engine's thread. Only small inputs whose image is
//! cached are prepared on the calling thread, because a hand-over to the pool would take longer
//! than the work.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use blip::{Pixels, Preprocessor, Ranking, RowTask, Tokenizer};
use bytes::Bytes;
use images::{Decoder, ImageDigest, fetch::decode_data_url};
use tokio::time::Instant;

use crate::{
    cache::{
        answers::{AnswerCache, AnswerKey},
        pixels::PixelCache,
    },
    config::sections::preprocess::PreprocessSettings,
    error::{ErrorReason, RequestError},
    preprocess::{
        candidates::{CandidateLists, Candidates},
        decoding::{DecodedImage, image_decoder::ImageDecoder},
        errors::{candidate_error, decode_error, fetch_error, text_error},
        fast_path::inline_digest,
        pool::{CpuPool, Origin, PoolError},
        prepared::{PreparedImage, PreparedInput, PreparedText, PreprocessTiming, ResponseKind, TokenIds},
    },
    request::{
        field_path::FieldPath,
        item::{CandidateSource, FileContent, ImageFile, ItemTask, ValidatedItem, ValidatedItems},
    },
    telemetry::metrics::{CancellationGuard, RequestStage},
};

/// When a client may retry after the queue of the CPU pool was full. The pool prepares many images
/// in this time.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The CPU time to tokenize a text, about.
const ITEM_TIME: Duration = Duration::from_micros(20);

/// The CPU time to decode a byte of a file, about, in nanoseconds.
const BYTE_NS: u64 = 10;

/// The CPU time to decode and scale a pixel, about, in nanoseconds.
const PIXEL_NS: u64 = 4;

/// The pixels of an image in a data URL whose beginning does not state them. Otherwise large images
/// would pass as small ones.
const UNKNOWN_PIXELS: u64 = 25_000_000;

/// The characters of base64 in which a data URL states the size of its image. A multiple of four.
const SIZE_CHARACTERS: usize = 16 << 10;

/// The preprocessing of one model: decoder, scaler and tokenizer, their threads, and the answer
/// cache.
#[derive(Clone, Debug)]
pub struct Preparer {
    parts: Arc<ModelParts>,
    pool: CpuPool<ImageDecoder>,
    threads: NonZeroUsize,
    answers: AnswerCache,
}

#[derive(Debug)]
struct ModelParts {
    decoder: Decoder,
    preprocessor: Preprocessor,
    tokenizer: Tokenizer,
    cache: PixelCache,
    lists: CandidateLists,
    /// The image of texts without an image.
    blank: PreparedImage,
}

/// An input that waits for a thread of the pool.
#[derive(Debug)]
struct UnpreparedInput {
    path: FieldPath,
    file: Option<ImageFile>,
    /// The digest of the file, if it is known.
    key: Option<ImageDigest>,
    items: ValidatedItems,
    deadline: Option<Instant>,
}

impl UnpreparedInput {
    /// Returns the CPU time that preparing takes, about. The pool corrects it by what it measures.
    fn estimate(&self) -> Duration {
        let (bytes, pixels) = match self.file.as_ref().map(|file| &file.content) {
            Some(FileContent::Bytes(bytes)) => (bytes.len(), images::claimed_pixels(bytes)),
            Some(FileContent::DataUrl(url)) => {
                (url.len(), Some(pixels_of_data_url(url).unwrap_or(UNKNOWN_PIXELS)))
            }
            None => (0, None),
        };
        let nanoseconds = BYTE_NS * bytes as u64 + PIXEL_NS * pixels.unwrap_or_default();
        ITEM_TIME * u32::try_from(self.items.len()).unwrap_or(u32::MAX) + Duration::from_nanos(nanoseconds)
    }
}

/// Returns the pixels that the image in a data URL claims at its beginning.
fn pixels_of_data_url(url: &str) -> Option<u64> {
    let (_, data) = url.split_once(',')?;
    let beginning = data.as_bytes().get(..data.len().min(SIZE_CHARACTERS))?;
    images::claimed_pixels(&BASE64_STANDARD.decode(beginning).ok()?)
}

/// An image file with the digest of its bytes.
#[derive(Debug)]
struct HashedFile {
    key: ImageDigest,
    bytes: Bytes,
    /// The path in the request of the field that holds the file or its URL, for messages.
    field: String,
}

impl Preparer {
    /// Creates a preparer with a separate CPU pool, whose threads decode the images.
    ///
    /// # Errors
    /// The error of the operating system if a thread cannot start.
    pub fn new(
        decoder: Decoder,
        preprocessor: Preprocessor,
        tokenizer: Tokenizer,
        settings: &PreprocessSettings,
    ) -> std::io::Result<Self> {
        let decoders = ImageDecoder::on_threads(settings.threads());
        let pool = CpuPool::new(decoders, settings.preprocess_queue)?;
        Self::with_pool(pool, decoder, preprocessor, tokenizer, settings)
    }

    /// Creates a preparer on a shared CPU pool with as many threads as `settings` sets.
    ///
    /// # Errors
    /// Those of [`Pixels::new`], which do not occur for a single pixel.
    pub fn with_pool(
        pool: CpuPool<ImageDecoder>,
        decoder: Decoder,
        preprocessor: Preprocessor,
        tokenizer: Tokenizer,
        settings: &PreprocessSettings,
    ) -> std::io::Result<Self> {
        let image_bytes = 3 * preprocessor.height() * preprocessor.width();
        let cache = PixelCache::new(settings.preprocess_cache_bytes, image_bytes);
        let pixels = Pixels::new(1, 1, vec![0; 3]).map_err(std::io::Error::other)?;
        let blank = PreparedImage { key: ImageDigest([0; 32]), pixels: Arc::new(pixels) };
        let lists = CandidateLists::new();
        Ok(Self {
            parts: Arc::new(ModelParts { decoder, preprocessor, tokenizer, cache, lists, blank }),
            pool,
            threads: settings.threads(),
            answers: AnswerCache::default(),
        })
    }

    /// Sets the candidate lists that questions may name. Must be called before the preparer is
    /// cloned.
    #[must_use]
    pub fn with_candidate_lists(mut self, lists: CandidateLists) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.lists = lists;
        }
        self
    }

    /// Sets the answer cache.
    #[must_use]
    pub fn with_answers(self, answers: AnswerCache) -> Self {
        Self { answers, ..self }
    }

    /// Returns a preparer without answer cache.
    #[must_use]
    pub fn without_answers(&self) -> Self {
        self.clone().with_answers(AnswerCache::default())
    }

    /// Returns the answer cache.
    #[must_use]
    pub fn answers(&self) -> &AnswerCache {
        &self.answers
    }

    /// Returns the candidate lists that questions may name.
    #[must_use]
    pub fn candidate_lists(&self) -> &CandidateLists {
        &self.parts.lists
    }

    /// Returns how many images of one call are prepared at the same time: enough for every thread,
    /// but too few to fill the pool's queue.
    #[must_use]
    pub fn images_at_a_time(&self) -> usize {
        self.threads.get()
    }

    /// Prepares one input. Without a `file`, its texts are embedded alone. Does nothing if the
    /// future is dropped before its turn.
    pub async fn prepare(
        &self,
        path: FieldPath,
        file: Option<ImageFile>,
        items: ValidatedItems,
        origin: Origin,
    ) -> PreparedInput {
        let start = Instant::now();
        let key = file.as_ref().and_then(|file| inline_digest(file, &items));
        if let Some(image) = key.and_then(|key| self.parts.cached_image(key)) {
            let texts = self.parts.texts(path, items, Some(image.key), &self.answers);
            let timing = PreprocessTiming::default().since(start);
            return PreparedInput { path, image: Some(Ok(image)), texts, timing };
        }
        let count = items.len();
        let input = UnpreparedInput { path, file, key, items, deadline: origin.deadline };
        let (parts, answers) = (Arc::clone(&self.parts), self.answers.clone());
        let timer = CancellationGuard::new(RequestStage::Preprocess);
        let prepared = self
            .pool
            .run(origin, input.estimate(), move |decoder| parts.prepare(input, &answers, decoder))
            .await;
        timer.finish();
        let error = match prepared {
            Ok(prepared) => return prepared,
            Err(PoolError::QueueFull { .. }) => {
                RequestError::new(ErrorReason::PreprocessingBusy).retry_after(RETRY_AFTER)
            }
            Err(error) => RequestError::new(ErrorReason::InternalError).cause(error),
        };
        PreparedInput::failed(path, &error, count)
    }

    /// Returns the text of a caption of `token_ids` after `prompt`, by the conventions of the
    /// model.
    #[must_use]
    pub fn caption(&self, prompt: &[i64], token_ids: &[i64]) -> String {
        self.parts.tokenizer.decode_caption(prompt, token_ids)
    }

    /// Returns the text of `token_ids`.
    #[must_use]
    pub fn text(&self, token_ids: &[i64]) -> String {
        self.parts.tokenizer.decode(token_ids)
    }
}

impl ModelParts {
    fn prepare(
        &self,
        input: UnpreparedInput,
        answers: &AnswerCache,
        decoder: &mut ImageDecoder,
    ) -> PreparedInput {
        let UnpreparedInput { path, file, key, items, deadline } = input;
        let (start, mut timing) = (Instant::now(), PreprocessTiming::default());
        let file = file.map(|file| self.read(file, key)).transpose();
        let key = file.as_ref().ok().map(|file| file.as_ref().map_or(self.blank.key, |file| file.key));
        let texts = self.texts(path, items, key, answers);
        // Cached answers exist only for images that were decoded before within the same limits.
        let needs_image = !texts.iter().all(|text| text.as_ref().is_ok_and(|text| text.cached.is_some()));
        let image = needs_image.then(|| match file? {
            Some(file) => self.image(file, &mut timing, decoder, deadline),
            None => Ok(self.blank.clone()),
        });
        PreparedInput { path, image, texts, timing: timing.since(start) }
    }

    /// Returns the image with this digest if its pixels are cached.
    fn cached_image(&self, key: ImageDigest) -> Option<PreparedImage> {
        self.cache.get(&key).map(|pixels| PreparedImage { key, pixels })
    }

    /// Prepares the texts about the image with digest `image`, with their results where the answer
    /// cache has them.
    fn texts(
        &self,
        path: FieldPath,
        items: ValidatedItems,
        image: Option<ImageDigest>,
        answers: &AnswerCache,
    ) -> Vec<Result<PreparedText, RequestError>> {
        let prepare = |(position, item): (usize, Result<ValidatedItem, RequestError>)| {
            let text = self.text(path, position, item?)?;
            let cached = image.and_then(|image| answers.get(AnswerKey::new(image, text.key)));
            Ok(PreparedText { cached, ..text })
        };
        items.into_iter().enumerate().map(prepare).collect()
    }

    /// Returns the bytes of a file with their digest. The digest may be known as `key`.
    fn read(&self, file: ImageFile, key: Option<ImageDigest>) -> Result<HashedFile, RequestError> {
        let ImageFile { content, field } = file;
        let bytes = match content {
            FileContent::Bytes(bytes) => bytes,
            FileContent::DataUrl(url) => decode_data_url(&url, self.decoder.limits().max_bytes)
                .map_err(|error| fetch_error(&field, &error))?,
        };
        let key = key.unwrap_or_else(|| ImageDigest::of(&bytes));
        Ok(HashedFile { key, bytes, field })
    }

    fn image(
        &self,
        file: HashedFile,
        timing: &mut PreprocessTiming,
        decoder: &mut ImageDecoder,
        deadline: Option<Instant>,
    ) -> Result<PreparedImage, RequestError> {
        let HashedFile { key, bytes, field } = file;
        if let Some(image) = self.cached_image(key) {
            return Ok(image);
        }
        let DecodedImage { pixels, decode, scale } = decoder
            .decode(&bytes, &self.decoder, &self.preprocessor, deadline)
            .map_err(|failure| decode_error(&field, &failure))?;
        (timing.image_decode, timing.image_scale) = (decode, scale);
        self.cache.insert(&key, &pixels);
        Ok(PreparedImage { key, pixels })
    }

    fn text(
        &self,
        path: FieldPath,
        position: usize,
        item: ValidatedItem,
    ) -> Result<PreparedText, RequestError> {
        let ValidatedItem { text, task } = item;
        let ids = match &task {
            ItemTask::EmbedImage => Ok(Vec::new()),
            ItemTask::Caption(_) => self.tokenizer.encode_prompt(&text),
            ItemTask::Answer(_) | ItemTask::Rank { .. } | ItemTask::Match | ItemTask::EmbedText => {
                self.tokenizer.encode(&text)
            }
        };
        let ids = TokenIds(ids.map_err(|error| text_error(path, position, &error))?);
        let mut tokens = ids.0.len();
        let (task, kind) = match task {
            ItemTask::Answer(generation) => (RowTask::Generate(generation), ResponseKind::Question),
            ItemTask::Caption(generation) => {
                (RowTask::Generate(generation), ResponseKind::Prompt(ids.clone()))
            }
            ItemTask::Match => (RowTask::Match, ResponseKind::Text),
            ItemTask::EmbedText => (RowTask::EmbedText, ResponseKind::Vector),
            ItemTask::EmbedImage => (RowTask::EmbedImage, ResponseKind::Vector),
            ItemTask::Rank { candidates, shortlist, num_answers, explain } => {
                let candidates = self.candidates(path, position, candidates)?;
                tokens += candidates.tokens(shortlist as usize);
                let ranking = Ranking {
                    candidates: Arc::clone(&candidates.ids),
                    shortlist,
                    // The margin needs the second best.
                    num_answers: num_answers.max(2),
                    explain,
                };
                (RowTask::Rank(ranking), ResponseKind::Choice { candidates, num_answers })
            }
        };
        Ok(PreparedText { key: ids.key(&task, &kind), ids, task, kind, cached: None, tokens })
    }

    fn candidates(
        &self,
        path: FieldPath,
        position: usize,
        source: CandidateSource,
    ) -> Result<Candidates, RequestError> {
        match source {
            CandidateSource::Named(name) => self.lists.get(&name).cloned().ok_or_else(|| {
                let field = path.candidate_list(position);
                RequestError::new(ErrorReason::CandidateListUnknown).field(field).value(format!("{name:?}"))
            }),
            CandidateSource::Given(texts) => Candidates::new(texts, &self.tokenizer)
                .map_err(|(index, error)| candidate_error(path, position, index, error)),
        }
    }
}
