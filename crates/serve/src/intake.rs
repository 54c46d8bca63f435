//! From a caller's bytes to what an engine takes: image files to pixels at the model's size, texts to token ids.
//! It runs on the CPU pool, never on an engine's thread, and on the server's own workers only where the way to the pool and
//! back would take longer than the work: a small file that was seen before, with a few words about it.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use blip::{Pixels, Preprocessor, Ranking, RgbView, RowOutput, RowTask, TokenizeError, Tokenizer};
use bytes::Bytes;
use images::{CpuPool, DecodeError, Decoder, PoolError, RgbImage, fetch::decode_data_url};
use scheduler::ImageKey;
use tokio::time::Instant;

use crate::{
    answer_cache::{AnswerCache, Pair},
    candidates::{CandidateError, CandidateLists, Candidates},
    errors::{Reason, Refusal},
    monitor::{Stage, Unfinished},
    pixel_cache::PixelCache,
    place::Place,
    refusals::refuse_fetch,
    reply::Subject,
    settings::PreprocessSettings,
    validate::{Among, FileContent, ImageFile, Query, Questions, Wish},
};

/// When a caller should come back who found the CPU pool's queue full: it moves on by many images a second.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Up to this size a file's digest is taken at once, in bytes: some tens of microseconds.
const LIGHT_FILE_BYTES: usize = 128 << 10;

/// Up to so many questions with so many bytes together are tokenized at once.
const LIGHT_QUESTIONS: usize = 8;
const LIGHT_QUESTION_BYTES: usize = 256;

/// The way in: decoder, scaler and tokenizer of one model, with the threads that they run on; and the answers that were kept,
/// for which no image is decoded.
#[derive(Clone, Debug)]
pub struct Intake {
    tools: Arc<Tools>,
    pool: CpuPool,
    threads: NonZeroUsize,
    answers: AnswerCache,
}

#[derive(Debug)]
struct Tools {
    decoder: Decoder,
    preprocessor: Preprocessor,
    tokenizer: Tokenizer,
    cache: PixelCache,
    lists: CandidateLists,
    /// Stands for the image of a text alone.
    nothing: ReadyImage,
}

/// A text in the model's words: `[CLS]` to `[SEP]`, or a caption's prompt from the start token on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds(pub Vec<i64>);

impl TokenIds {
    /// Identity of a text with what is wanted of it: two that the model cannot tell apart are one.
    fn key(&self, task: &RowTask, subject: &Subject) -> [u8; 32] {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|id| id.to_le_bytes()).collect();
        match (task, subject) {
            (RowTask::Generate(generation), _) if generation.is_greedy() && !generation.report_tokens => {
                bytes.extend(generation.max_new_tokens.into_iter().flat_map(u32::to_le_bytes));
            }
            (RowTask::Generate(generation), _) => {
                bytes.extend(format!("{generation:?}").into_bytes());
                if generation.report_tokens {
                    // Each who wants the tokens as they are written needs a row of their own.
                    bytes.extend(rand::random::<u128>().to_le_bytes());
                }
            }
            (RowTask::Rank(ranking), Subject::Choice { candidates, .. }) => {
                bytes.extend(candidates.digest);
                bytes.extend([ranking.shortlist, ranking.num_answers].into_iter().flat_map(u32::to_le_bytes));
            }
            _ => bytes.extend(task.name().bytes()),
        }
        images::digest(&bytes).0
    }
}

/// An image as an engine takes it.
#[derive(Clone, Debug)]
pub struct ReadyImage {
    /// Digest of the file's bytes.
    pub key: ImageKey,
    /// Pixels at the model's size.
    pub pixels: Arc<Pixels>,
}

/// A question as an engine takes it.
#[derive(Clone, Debug)]
pub struct ReadyQuestion {
    /// Digest of the token ids and of what is wanted.
    pub key: [u8; 32],
    /// The token ids.
    pub ids: TokenIds,
    /// What is wanted.
    pub task: RowTask,
    /// What the reply is about.
    pub subject: Subject,
    /// The answer, if it was kept.
    pub kept: Option<RowOutput>,
    /// Tokens that the model reads, as a measure of its work: those of candidates count.
    pub tokens: usize,
}

impl ReadyQuestion {
    /// Whether its answer was kept.
    fn is_kept(&self) -> bool {
        self.kept.is_some()
    }
}

/// An image's file with the digest of its bytes.
#[derive(Debug)]
struct NamedFile {
    key: ImageKey,
    bytes: Bytes,
    /// What its caller calls it.
    field: String,
}

/// An input made ready, or refused part by part.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where it stands in the request.
    pub place: Place,
    /// The image, or why there is none; nothing if every question has an answer that was kept.
    pub image: Option<Result<ReadyImage, Refusal>>,
    /// The questions, by their positions.
    pub questions: Vec<Result<ReadyQuestion, Refusal>>,
    /// What it took.
    pub cost: Cost,
}

/// How long making an image ready took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Fetching it, if it came by URL.
    pub fetch: Duration,
    /// Knowing it again, or decoding and scaling it.
    pub preprocess: Duration,
    /// Of that, from the file's bytes to RGB, the wait for room to do it included; zero for one that was known.
    pub image_decode: Duration,
    /// Of that, from RGB to the model's size; zero for one that was known.
    pub image_scale: Duration,
}

impl Cost {
    /// The same, from `start` until now.
    fn since(self, start: Instant) -> Self {
        Self { preprocess: start.elapsed(), ..self }
    }
}

impl Ready {
    /// Not ready for `refusal`; a question's own fault is not lost over it.
    #[must_use]
    pub fn refused(place: Place, refusal: &Refusal, questions: Questions) -> Self {
        let questions =
            questions.into_iter().map(|question| Err(question.err().unwrap_or_else(|| refusal.clone())));
        Self { questions: questions.collect(), ..Self::failed(place, refusal, 0) }
    }

    /// Not ready for `refusal`, with so many questions.
    #[must_use]
    pub fn failed(place: Place, refusal: &Refusal, questions: usize) -> Self {
        let questions = vec![Err(refusal.clone()); questions];
        Self { place, image: Some(Err(refusal.clone())), questions, cost: Cost::default() }
    }
}

impl Intake {
    /// The way in to a model, with threads as `settings` says.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn new(
        decoder: Decoder,
        preprocessor: Preprocessor,
        tokenizer: Tokenizer,
        settings: &PreprocessSettings,
    ) -> std::io::Result<Self> {
        let pool = CpuPool::new(settings.threads().get(), settings.preprocess_queue)?;
        Self::on(pool, decoder, preprocessor, tokenizer, settings)
    }

    /// The way in to a model, on threads that others share; there are as many as `settings` says.
    ///
    /// # Errors
    /// Those of [`Pixels::new`], of which a lone pixel meets none.
    pub fn on(
        pool: CpuPool,
        decoder: Decoder,
        preprocessor: Preprocessor,
        tokenizer: Tokenizer,
        settings: &PreprocessSettings,
    ) -> std::io::Result<Self> {
        let image_bytes = 3 * preprocessor.height() * preprocessor.width();
        let cache = PixelCache::new(settings.preprocess_cache_bytes, image_bytes);
        let pixels = Pixels::new(1, 1, vec![0; 3]).map_err(std::io::Error::other)?;
        let nothing = ReadyImage { key: ImageKey([0; 32]), pixels: Arc::new(pixels) };
        let tools = Tools { decoder, preprocessor, tokenizer, cache, lists: CandidateLists::new(), nothing };
        Ok(Self {
            tools: Arc::new(tools),
            pool,
            threads: settings.threads(),
            answers: AnswerCache::default(),
        })
    }

    /// The same with lists of candidates that questions may name. To be called before there are clones.
    #[must_use]
    pub fn with_candidate_lists(mut self, lists: CandidateLists) -> Self {
        if let Some(tools) = Arc::get_mut(&mut self.tools) {
            tools.lists = lists;
        }
        self
    }

    /// The same, with answers kept in `answers`.
    #[must_use]
    pub fn with_answers(self, answers: AnswerCache) -> Self {
        Self { answers, ..self }
    }

    /// The same, for questions that are to be computed: no answer that was kept is given, and none is kept.
    #[must_use]
    pub fn without_answers(&self) -> Self {
        self.clone().with_answers(AnswerCache::default())
    }

    /// The answers that are kept.
    #[must_use]
    pub fn answers(&self) -> &AnswerCache {
        &self.answers
    }

    /// The lists of candidates that questions may name.
    #[must_use]
    pub fn candidate_lists(&self) -> &CandidateLists {
        &self.tools.lists
    }

    /// Images of one call that are worked on at a time: enough to keep every thread busy, too few for one call to
    /// fill the pool's queue.
    #[must_use]
    pub fn images_at_a_time(&self) -> usize {
        self.threads.get()
    }

    /// Makes the input of this place ready, whose texts stand alone without a file. If the future is dropped before its turn
    /// has come, nothing is done.
    pub async fn prepare(&self, place: Place, file: Option<ImageFile>, questions: Questions) -> Ready {
        let start = Instant::now();
        let key = file.as_ref().and_then(|file| Tools::light_key(file, &questions));
        if let Some(image) = key.and_then(|key| self.tools.known(key)) {
            let cost = Cost::default().since(start);
            let questions = self.tools.questions(place, questions, Some(image.key), &self.answers);
            return Ready { place, image: Some(Ok(image)), questions, cost };
        }
        let count = questions.len();
        let (tools, answers) = (Arc::clone(&self.tools), self.answers.clone());
        let unfinished = Unfinished::new(Stage::Preprocess);
        let prepared = self.pool.run(move || tools.prepare(place, file, key, questions, &answers)).await;
        unfinished.finish();
        let refusal = match prepared {
            Ok(ready) => return ready,
            Err(PoolError::QueueFull { .. }) => {
                Refusal::new(Reason::PreprocessingBusy).retry_after(RETRY_AFTER)
            }
            Err(error) => Refusal::new(Reason::InternalError).cause(error),
        };
        Ready::failed(place, &refusal, count)
    }

    /// The text of a caption, `written` behind `prompt`, as the model's flavour has it.
    #[must_use]
    pub fn caption(&self, prompt: &[i64], written: &[i64]) -> String {
        self.tools.tokenizer.decode_caption(prompt, written)
    }

    /// The text of token ids.
    #[must_use]
    pub fn text(&self, ids: &[i64]) -> String {
        self.tools.tokenizer.decode(ids)
    }
}

impl Tools {
    fn prepare(
        &self,
        place: Place,
        file: Option<ImageFile>,
        key: Option<ImageKey>,
        questions: Questions,
        answers: &AnswerCache,
    ) -> Ready {
        let (start, mut steps) = (Instant::now(), Cost::default());
        let file = file.map(|file| self.read(file, key)).transpose();
        let key = file.as_ref().ok().map(|file| file.as_ref().map_or(self.nothing.key, |file| file.key));
        let questions = self.questions(place, questions, key, answers);
        // Only what was decoded before, within the same limits, has answers that were kept.
        let is_needed = !questions.iter().all(|question| question.as_ref().is_ok_and(ReadyQuestion::is_kept));
        let image = is_needed.then(|| match file? {
            Some(file) => self.image(file, &mut steps),
            None => Ok(self.nothing.clone()),
        });
        Ready { place, image, questions, cost: steps.since(start) }
    }

    /// The file's digest, of an input that takes next to nothing to make ready if the file is known.
    fn light_key(file: &ImageFile, questions: &Questions) -> Option<ImageKey> {
        let FileContent::Bytes(bytes) = &file.content else { return None };
        let question_bytes: usize = questions.iter().flatten().map(Query::bytes).sum();
        let light = bytes.len() <= LIGHT_FILE_BYTES
            && questions.len() <= LIGHT_QUESTIONS
            && question_bytes <= LIGHT_QUESTION_BYTES;
        light.then(|| ImageKey(images::digest(bytes).0))
    }

    /// The image of this key, if its pixels are kept.
    fn known(&self, key: ImageKey) -> Option<ReadyImage> {
        self.cache.get(&key).map(|pixels| ReadyImage { key, pixels })
    }

    /// The questions about the image of this key, those of them with their answers whose answers are kept.
    fn questions(
        &self,
        place: Place,
        questions: Questions,
        image: Option<ImageKey>,
        answers: &AnswerCache,
    ) -> Vec<Result<ReadyQuestion, Refusal>> {
        let ready = |(position, query): (usize, Result<Query, Refusal>)| {
            let question = self.question(place, position, query?)?;
            let kept = image.and_then(|image| answers.get(Pair::new(image, question.key)));
            Ok(ReadyQuestion { kept, ..question })
        };
        questions.into_iter().enumerate().map(ready).collect()
    }

    /// The bytes of a file with their digest, which may be known as `key`.
    fn read(&self, file: ImageFile, key: Option<ImageKey>) -> Result<NamedFile, Refusal> {
        let ImageFile { content, field } = file;
        let bytes = match content {
            FileContent::Bytes(bytes) => bytes,
            FileContent::DataUrl(url) => decode_data_url(&url, self.decoder.limits().max_bytes)
                .map_err(|error| refuse_fetch(&field, &error))?,
        };
        let key = key.unwrap_or_else(|| ImageKey(images::digest(&bytes).0));
        Ok(NamedFile { key, bytes, field })
    }

    fn image(&self, file: NamedFile, cost: &mut Cost) -> Result<ReadyImage, Refusal> {
        let NamedFile { key, bytes, field } = file;
        if let Some(image) = self.known(key) {
            return Ok(image);
        }
        let begin = Instant::now();
        let RgbImage { width, height, data } =
            self.decoder.decode(&bytes).map_err(|error| refuse_image(&field, &error))?;
        let decoded = Instant::now();
        let internal = |error| Refusal::new(Reason::InternalError).cause(error);
        let view = RgbView::new(width as usize, height as usize, &data).map_err(internal)?;
        let pixels = Arc::new(self.preprocessor.resize(view));
        (cost.image_decode, cost.image_scale) = (decoded - begin, decoded.elapsed());
        self.cache.put(&key, &pixels);
        Ok(ReadyImage { key, pixels })
    }

    fn question(&self, place: Place, position: usize, query: Query) -> Result<ReadyQuestion, Refusal> {
        let Query { text, wish } = query;
        let ids = match &wish {
            Wish::ImageVector => Ok(Vec::new()),
            Wish::Caption(_) => self.tokenizer.encode_prompt(&text),
            Wish::Answer(_) | Wish::Choose { .. } | Wish::Match | Wish::TextVector => {
                self.tokenizer.encode(&text)
            }
        };
        let ids = TokenIds(ids.map_err(|error| refuse_question(place, position, &error))?);
        let mut tokens = ids.0.len();
        let (task, subject) = match wish {
            Wish::Answer(generation) => (RowTask::Generate(generation), Subject::Question),
            Wish::Caption(generation) => (RowTask::Generate(generation), Subject::Prompt(ids.clone())),
            Wish::Match => (RowTask::Match, Subject::Text),
            Wish::TextVector => (RowTask::EmbedText, Subject::Vector),
            Wish::ImageVector => (RowTask::EmbedImage, Subject::Vector),
            Wish::Choose { among, shortlist, num_answers } => {
                let candidates = self.candidates(place, position, among)?;
                tokens += candidates.tokens(shortlist as usize);
                let ranking = Ranking {
                    candidates: Arc::clone(&candidates.ids),
                    shortlist,
                    // The second best tells by how much the best one leads.
                    num_answers: num_answers.max(2),
                };
                (RowTask::Rank(ranking), Subject::Choice { candidates, num_answers })
            }
        };
        Ok(ReadyQuestion { key: ids.key(&task, &subject), ids, task, subject, kept: None, tokens })
    }

    fn candidates(&self, place: Place, position: usize, among: Among) -> Result<Candidates, Refusal> {
        match among {
            Among::Named(name) => self.lists.get(&name).cloned().ok_or_else(|| {
                let field = place.candidate_list(position);
                Refusal::new(Reason::CandidateListUnknown).field(field).value(format!("{name:?}"))
            }),
            Among::Given(texts) => Candidates::new(texts, &self.tokenizer).map_err(|(index, error)| {
                let field = format!("{}[{index}]", place.candidates(position));
                match error {
                    CandidateError::Empty => Refusal::new(Reason::CandidateEmpty).field(field),
                    CandidateError::Unreadable(TokenizeError::TooLong { tokens, limit }) => {
                        Refusal::new(Reason::CandidateTooLong)
                            .field(field)
                            .value(format!("{tokens} tokens"))
                            .limit(format!("{limit} tokens"))
                    }
                    CandidateError::Unreadable(error) => {
                        Refusal::new(Reason::CandidateUnreadable).field(field).cause(error)
                    }
                }
            }),
        }
    }
}

fn refuse_question(place: Place, position: usize, error: &TokenizeError) -> Refusal {
    let field = place.question(position);
    match error {
        TokenizeError::TooLong { tokens, limit } => Refusal::new(Reason::QuestionTooLong)
            .field(field)
            .value(format!("{tokens} tokens"))
            .limit(format!("{limit} tokens")),
        TokenizeError::Tokenizer(_) => Refusal::new(Reason::QuestionUnreadable).field(field).cause(error),
    }
}

fn refuse_image(field: &str, error: &DecodeError) -> Refusal {
    let reason = match error {
        DecodeError::Empty => Reason::ImageEmpty,
        DecodeError::TooManyBytes { bytes, limit } => {
            return Refusal::new(Reason::ImageTooLarge)
                .field(field)
                .value(format!("{bytes} bytes"))
                .limit(format!("{limit} bytes"));
        }
        DecodeError::UnknownFormat | DecodeError::Unsupported { .. } => Reason::ImageFormatUnknown,
        DecodeError::SideTooLong { .. }
        | DecodeError::TooManyPixels { .. }
        | DecodeError::TooMuchMemory { .. } => Reason::ImageTooManyPixels,
        DecodeError::Truncated { .. } | DecodeError::Corrupt { .. } => Reason::ImageUnreadable,
    };
    Refusal::new(reason).field(field).cause(error)
}
