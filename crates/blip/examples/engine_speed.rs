//! Checks and measures the model without sockets and scheduler: the limit of a device.
//!
//! ```text
//! cargo run --release -p blip --example engine_speed -- --model DIR --device cuda --dtype f16 --out speed.json
//! ```
//!
//! The checks compare:
//!
//! - half precision with f32;
//! - batched questions with single ones, about new images, and about new and cached ones together;
//! - CUDA graphs and native kernels with neither.
//!
//! The measurements are the throughput for new and for cached images, with one and with six
//! questions each, and the latency of a single question. Images and questions are random numbers,
//! because the work does not depend on their contents.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]
#![expect(clippy::disallowed_types, reason = "measures real time")]
#![expect(clippy::indexing_slicing, reason = "a benchmark panics on errors")]

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use blip::{
    Checkpoint, CpuKernels, CudaGelu, CudaKernels, DeviceRequest, Dtype, ImageDigest, ImageInput,
    LoadOptions, Model, ModelFiles, PartDtype, Pixels, RowAnswer, RowError, RowInput, RowOutput, RowSink,
    RowTask, Sequence, open_device,
};
use clap::{ArgAction, Parser};
use serde_json::{Value, json};

/// The allocator of blip-serve. It serves LibTorch as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Uses of an image after which its keys and values are in the cross-attention cache, with
/// questions of at least 8 tokens on average.
const USES_UNTIL_CACHED: usize = 8;

#[derive(Debug, Parser)]
struct Arguments {
    /// Model folder in the layout of Hugging Face
    #[arg(long)]
    model: PathBuf,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceRequest,
    /// Number format: f32, f16, bf16 or int8 [default: depends on the device]
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Number format of the image encoder: auto, bf16, int8 or fp8
    #[arg(long, default_value_t)]
    vision_dtype: PartDtype,
    /// Number format of text encoder and decoder: auto, bf16 or int8
    #[arg(long, default_value_t)]
    text_dtype: PartDtype,
    /// Tokens of each question, including [CLS] and [SEP]: a number or a range such as 5-20
    #[arg(long, default_value = "12", value_parser = parse_range)]
    question_tokens: (usize, usize),
    /// Maximum tokens of each answer; random weights seldom end an answer earlier
    #[arg(long, default_value_t = 3)]
    answer_tokens: i64,
    /// Measured batch sizes, in distinct images
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128")]
    batch_images: Vec<usize>,
    /// Time of each measurement, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Images of the correctness checks
    #[arg(long, default_value_t = 16)]
    check_images: usize,
    /// Size of the cross-attention cache [default: depends on the device]
    #[arg(long, alias = "key-value-cache-bytes")]
    cross_attention_cache_bytes: Option<usize>,
    /// Kernels on the CPU: auto, native or libtorch
    #[arg(long, default_value_t)]
    cpu_kernels: CpuKernels,
    /// Kernels between the matrix products on CUDA: auto, native or libtorch
    #[arg(long, default_value_t)]
    cuda_kernels: CudaKernels,
    /// Form of GELU on CUDA: exact or tanh
    #[arg(long, default_value_t)]
    cuda_gelu: CudaGelu,
    /// Launch small batches as CUDA graphs
    #[arg(long, default_value_t = true, require_equals = true, action = ArgAction::Set)]
    cuda_graphs: bool,
    /// Measure only questions about cached images
    #[arg(long)]
    cached_only: bool,
    /// Measure without checks
    #[arg(long)]
    no_checks: bool,
    /// File for the results, written again after each measurement [default: standard output]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Parses a number, or two with a hyphen between them.
fn parse_range(text: &str) -> Result<(usize, usize), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (low.parse(), high.parse()) {
        (Ok(low), Ok(high)) if 1 <= low && low <= high => Ok((low, high)),
        _ => Err("expected a number from 1 on, or a range such as 5-20".to_owned()),
    }
}

/// The results so far.
#[derive(Debug)]
struct Report {
    values: serde_json::Map<String, Value>,
    out: Option<PathBuf>,
}

impl Report {
    /// Adds results and writes all of them to the file, if there is one. A process that is stopped
    /// later leaves them.
    fn add(&mut self, values: Value) -> Result<()> {
        if let Value::Object(values) = values {
            self.values.extend(values);
        }
        let Some(out) = &self.out else { return Ok(()) };
        std::fs::write(out, self.text()?).with_context(|| format!("cannot write {}", out.display()))
    }

    fn text(&self) -> Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(&self.values)?))
    }
}

/// A generator of reproducible random numbers (xorshift64*).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// The results of a batch.
#[derive(Debug, Default)]
struct Answers {
    /// By row index.
    rows: Vec<Option<Result<Sequence, RowError>>>,
    /// Images whose keys and values were cached.
    cached_images: usize,
}

impl RowSink for Answers {
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>) {
        if self.rows.len() <= row {
            self.rows.resize(row + 1, None);
        }
        self.rows[row] = Some(outcome.and_then(|answer| match answer.output {
            RowOutput::Generated(mut sequences) => sequences.pop().ok_or(RowError::NotFinite),
            _ => Err(RowError::NotFinite),
        }));
    }

    fn is_cancelled(&self, _row: usize) -> bool {
        false
    }

    fn key_values(&mut self, cached: usize, _images: usize) {
        self.cached_images = cached;
    }
}

/// Random images and questions, and batches of them.
#[derive(Debug)]
struct Workload {
    random: Random,
    images: Vec<Pixels>,
    questions: Vec<Vec<i64>>,
    next_digest: u64,
}

impl Workload {
    fn new(checkpoint: &Checkpoint, (shortest, longest): (usize, usize)) -> Result<Self> {
        let mut random = Random(7);
        let side = usize::try_from(checkpoint.config().vision.image_size).unwrap_or(0);
        let images = (0..64)
            .map(|_| Pixels::new(side, side, (0..side * side * 3).map(|_| random.next() as u8).collect()))
            .collect::<Result<_, _>>()?;
        let vocabulary = checkpoint.config().text.vocab_size as u64;
        let questions = (0..64)
            .map(|index| {
                let tokens = shortest + index % (longest - shortest + 1);
                (0..tokens).map(|_| (random.next() % vocabulary) as i64).collect()
            })
            .collect();
        Ok(Self { random, images, questions, next_digest: 0 })
    }

    fn new_digest(&mut self) -> ImageDigest {
        self.next_digest += 1;
        digest(self.next_digest)
    }

    fn run(
        &mut self,
        model: &mut Model,
        digests: &[ImageDigest],
        questions_per_image: usize,
    ) -> Result<Answers> {
        let images: Vec<ImageInput<'_>> = digests
            .iter()
            .enumerate()
            .map(|(index, &key)| ImageInput { digest: key, pixels: &self.images[index % self.images.len()] })
            .collect();
        let start = self.random.next() as usize;
        let questions: Vec<RowInput<'_>> = (0..digests.len() * questions_per_image)
            .map(|index| RowInput {
                image: Some(index / questions_per_image),
                token_ids: &self.questions[start.wrapping_add(index) % self.questions.len()],
                task: &RowTask::GREEDY,
            })
            .collect();
        let mut answers = Answers::default();
        model.run(&images, &questions, &mut answers)?;
        if answers.rows.len() != questions.len()
            || answers.rows.iter().any(|answer| !matches!(answer, Some(Ok(_))))
        {
            bail!("a row has no answer");
        }
        Ok(answers)
    }
}

fn digest(number: u64) -> ImageDigest {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    digest
}

/// Repeats `work` at least three times and for at least `seconds`, after `unmeasured` runs.
///
/// Returns the sorted times of the runs, in seconds.
fn repeat(seconds: f64, unmeasured: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    for _ in 0..unmeasured {
        work()?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        let begin = Instant::now();
        work()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// Measures batches of `images` images with `questions_per_image` questions each.
///
/// With `cached`, all batches have the same images.
fn throughput(
    arguments: &Arguments,
    workload: &mut Workload,
    model: &mut Model,
    images: usize,
    questions_per_image: usize,
    cached: bool,
) -> Result<Value> {
    let same: Vec<ImageDigest> = (0..images).map(|_| workload.new_digest()).collect();
    let unmeasured = if cached { USES_UNTIL_CACHED } else { 2 };
    let times = repeat(arguments.seconds, unmeasured, || {
        let digests =
            if cached { same.clone() } else { (0..images).map(|_| workload.new_digest()).collect() };
        workload.run(model, &digests, questions_per_image).map(drop)
    })?;
    let questions = images * questions_per_image;
    let (middle, count) = (median(&times), times.len());
    let rate = questions as f64 / middle;
    eprintln!(
        "  {images:4} images x {questions_per_image:2} questions{}: {:9.2} ms a batch, {rate:9.1} questions/s ({count} runs)",
        if cached { ", cached" } else { "" },
        middle * 1e3,
    );
    Ok(json!({
        "images": images, "questions_per_image": questions_per_image, "cached": cached, "runs": count,
        "batch_ms_median": middle * 1e3, "batch_ms_fastest": times[0] * 1e3, "batch_ms_slowest": times[count - 1] * 1e3,
        "questions_per_second": rate,
    }))
}

/// Counts the different answers of `one` and `other`.
///
/// An answer of `one` with a margin up to `near_tie` is a near tie, whose difference is no fault.
fn compare(one: &[Sequence], other: &[Sequence], near_tie: f32) -> Value {
    let different: Vec<f32> = one
        .iter()
        .zip(other)
        .filter(|(left, right)| left.token_ids != right.token_ids)
        .map(|(left, _)| left.margin)
        .collect();
    let largest_score_difference = one
        .iter()
        .zip(other)
        .filter(|(left, right)| left.token_ids == right.token_ids)
        .map(|(left, right)| (left.score - right.score).abs())
        .fold(0f32, f32::max);
    json!({
        "answers": one.len(),
        "different": different.len(),
        "different_beyond_near_ties": different.iter().filter(|&&margin| margin > near_tie).count(),
        "near_tie_margin": near_tie,
        "largest_margin_of_a_difference": different.iter().copied().fold(0f32, f32::max),
        "largest_score_difference_of_equal_answers": largest_score_difference,
    })
}

/// Answers each question in a separate batch.
fn answers_alone(workload: &Workload, model: &mut Model, images: usize) -> Result<Vec<Sequence>> {
    (0..images)
        .map(|index| {
            let image =
                ImageInput { digest: digest(1 << 40 | index as u64), pixels: &workload.images[index % 64] };
            let question = RowInput {
                image: Some(0),
                token_ids: &workload.questions[index % 64],
                task: &RowTask::GREEDY,
            };
            let mut answers = Answers::default();
            model.run(&[image], &[question], &mut answers)?;
            answers.rows.pop().flatten().context("no answer")?.map_err(Into::into)
        })
        .collect()
}

/// Answers the questions of the images `0..images` in one batch, each `repeats(image)` times.
/// `digest_of` returns the digest of an image.
///
/// Returns the number of images with cached keys and values, and each row's image and answer.
fn answers_together(
    workload: &Workload,
    model: &mut Model,
    images: usize,
    digest_of: impl Fn(usize) -> ImageDigest,
    repeats: impl Fn(usize) -> usize,
) -> Result<(usize, Vec<(usize, Sequence)>)> {
    let inputs: Vec<ImageInput<'_>> = (0..images)
        .map(|image| ImageInput { digest: digest_of(image), pixels: &workload.images[image % 64] })
        .collect();
    let image_of_row: Vec<usize> =
        (0..images).flat_map(|image| std::iter::repeat_n(image, repeats(image))).collect();
    let questions: Vec<RowInput<'_>> = image_of_row
        .iter()
        .map(|&image| RowInput {
            image: Some(image),
            token_ids: &workload.questions[image % 64],
            task: &RowTask::GREEDY,
        })
        .collect();
    let mut answers = Answers::default();
    model.run(&inputs, &questions, &mut answers)?;
    let rows = image_of_row.into_iter().zip(answers.rows);
    let rows = rows.map(|(image, answer)| Ok((image, answer.context("no answer")??)));
    Ok((answers.cached_images, rows.collect::<Result<_>>()?))
}

/// Answers questions about cached images and, every fourth image, new ones in one batch. Images
/// have two to four questions.
fn answers_cached(
    workload: &Workload,
    model: &mut Model,
    images: usize,
) -> Result<(usize, Vec<(usize, Sequence)>)> {
    let cached = |image: usize| digest(3 << 40 | image as u64);
    let repeats = |image: usize| 2 + image % 3;
    for _ in 0..USES_UNTIL_CACHED {
        answers_together(workload, model, images, cached, repeats)?;
    }
    let digest_of = |image| if image % 4 == 3 { digest(4 << 40 | image as u64) } else { cached(image) };
    answers_together(workload, model, images, digest_of, repeats)
}

/// Compares the answers of rows with those of their images alone, see [`compare`].
fn compare_rows(alone: &[Sequence], rows: &[(usize, Sequence)], near_tie: f32) -> Value {
    let (expected, found): (Vec<_>, Vec<_>) =
        rows.iter().map(|(image, answer)| (alone[*image].clone(), answer.clone())).unzip();
    compare(&expected, &found, near_tie)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Unavailable graphs or kernels are logged as warnings.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let chosen = open_device(arguments.device)?;
    if chosen.device.is_cuda() {
        // As in the server: an engine on CUDA computes nothing on the CPU.
        tch::set_num_threads(1);
    }
    let dtype = arguments.dtype.unwrap_or_else(|| Dtype::auto(chosen.device));
    eprintln!("device {:?} ({}), dtype {dtype}", chosen.device, chosen.reason);

    let begin = Instant::now();
    let checkpoint = Checkpoint::open(&ModelFiles::Folder(arguments.model.clone()))?;
    let most = arguments.batch_images.iter().copied().max().unwrap_or(1);
    let mut options = LoadOptions::for_device(chosen.device);
    options.max_new_tokens = Some(arguments.answer_tokens);
    options.max_batch_images = most.max(arguments.check_images);
    options.cuda_graphs = arguments.cuda_graphs;
    options.cross_attention_cache_bytes =
        arguments.cross_attention_cache_bytes.unwrap_or(options.cross_attention_cache_bytes);
    options.vision_dtype = arguments.vision_dtype;
    options.text_dtype = arguments.text_dtype;
    options.cpu_kernels = arguments.cpu_kernels;
    options.cuda_kernels = arguments.cuda_kernels;
    options.cuda_gelu = arguments.cuda_gelu;
    let mut model = Model::load(&checkpoint, chosen.device, dtype, options)?;
    let load_seconds = begin.elapsed().as_secs_f64();
    let (resident, weight_bytes) = (resident_bytes(), checkpoint.weights().bytes());
    eprintln!(
        "loaded in {load_seconds:.2} s, resident {} MiB, weights in the file {} MiB",
        resident >> 20,
        weight_bytes >> 20
    );
    let cuda_kernels = model.cuda_kernels();
    let mut unavailable = Vec::new();
    let wants_native = arguments.cuda_kernels != CudaKernels::LibTorch && dtype != Dtype::Bf16;
    if chosen.device.is_cuda() && wants_native && cuda_kernels != CudaKernels::Native {
        unavailable.push("native CUDA kernels");
    }
    if model.lacks_cuda_graphs() {
        unavailable.push("some CUDA graphs");
    }
    if !unavailable.is_empty() {
        eprintln!("not available: {}; all results are measured without", unavailable.join(", "));
    }
    let (shortest, longest) = arguments.question_tokens;
    let mut report = Report { values: serde_json::Map::new(), out: arguments.out.clone() };
    report.add(json!({
        "device": format!("{:?}", chosen.device), "dtype": dtype.to_string(),
        "cuda_graphs": options.cuda_graphs && chosen.device.is_cuda(), "cuda_kernels": cuda_kernels.to_string(),
        "unavailable": unavailable, "cuda_gelu": arguments.cuda_gelu.to_string(), "cross_attention_cache_bytes": options.cross_attention_cache_bytes,
        "question_tokens": [shortest, longest], "answer_tokens": arguments.answer_tokens,
        "load_seconds": load_seconds, "resident_bytes_after_load": resident, "weight_bytes": weight_bytes,
    }))?;
    let mut workload = Workload::new(&checkpoint, arguments.question_tokens)?;

    if !arguments.no_checks {
        let images = arguments.check_images;
        let alone = answers_alone(&workload, &mut model, images)?;
        let new = |image| digest(2 << 40 | image as u64);
        let (_, together) = answers_together(&workload, &mut model, images, new, |_| 1)?;
        let (cached_images, cached) = answers_cached(&workload, &mut model, images)?;
        let tie = if dtype == Dtype::F32 { 1e-3 } else { 0.05 };
        let batched = compare_rows(&alone, &together, tie);
        eprintln!("batched against alone: {batched}");
        let mut cached = compare_rows(&alone, &cached, tie);
        cached["cached_images"] = json!(cached_images);
        eprintln!("cached and new images against alone: {cached}");
        let plain = LoadOptions {
            cuda_graphs: false,
            vision_dtype: PartDtype::AsModel,
            text_dtype: PartDtype::AsModel,
            cpu_kernels: CpuKernels::LibTorch,
            cuda_kernels: CudaKernels::LibTorch,
            cuda_gelu: CudaGelu::Exact,
            ..options
        };
        let answers_of_plain = |dtype| -> Result<Vec<Sequence>> {
            let mut model = Model::load(&checkpoint, chosen.device, dtype, plain)?;
            answers_alone(&workload, &mut model, images)
        };
        let precision = compare(&answers_of_plain(Dtype::F32)?, &alone, tie);
        eprintln!("{dtype} against f32: {precision}");
        let mut plain_kernels = json!(null);
        if chosen.device.is_cuda() {
            plain_kernels = compare(&answers_of_plain(dtype)?, &alone, tie);
            eprintln!("{dtype} against {dtype} without graphs and native kernels: {plain_kernels}");
        }
        report.add(json!({ "checks": {
            "batched_against_alone": batched, "cached_against_alone": cached, "dtype_against_f32": precision, "against_plain_kernels": plain_kernels,
        } }))?;
    }

    eprintln!("a single question:");
    let single = repeat(arguments.seconds, 2, || {
        let digests = [workload.new_digest()];
        workload.run(&mut model, &digests, 1).map(drop)
    })?;
    let (p50, p99) = (median(&single) * 1e3, single[(single.len() * 99 / 100).min(single.len() - 1)] * 1e3);
    eprintln!("  p50 {p50:.2} ms, p99 {p99:.2} ms ({} runs)", single.len());
    report.add(json!({ "single_question_ms": { "p50": p50, "p99": p99, "runs": single.len() } }))?;

    let mut tables = Vec::new();
    for (title, questions_per_image, cached) in [
        ("new images, one question each", 1, false),
        ("new images, six questions each", 6, false),
        ("cached images, one question each", 1, true),
        ("cached images, six questions each", 6, true),
    ] {
        if arguments.cached_only && !cached {
            continue;
        }
        eprintln!("{title}:");
        for &images in &arguments.batch_images {
            tables.push(throughput(
                &arguments,
                &mut workload,
                &mut model,
                images,
                questions_per_image,
                cached,
            )?);
            report.add(json!({ "throughput": tables }))?;
        }
    }
    report.add(json!({ "resident_bytes_at_end": resident_bytes() }))?;
    if arguments.out.is_none() {
        print!("{}", report.text()?);
    }
    Ok(())
}
