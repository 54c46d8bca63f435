//! Compares the implementations of a model on the CPU in one process.
//!
//! The implementations are LibTorch's kernels and the native kernels, in f32. The native ones also
//! compute images in int8 and texts in bf16.
//!
//! ```text
//! cargo run --release -p blip --example cpu_variants -- --model DIR
//! ```
//!
//! All variants answer the same questions in turn. The result is the minimum CPU time of each,
//! which depends little on other load of the machine, and the minimum and the median of the
//! wall-clock time. Images and
//! questions are random numbers, because the work does not depend on their contents.
#![expect(clippy::print_stdout, reason = "a command-line program")]
#![expect(clippy::disallowed_types, reason = "measures real time")]

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use blip::{
    Checkpoint, CpuKernels, Dtype, ImageInput, LoadOptions, Model, ModelFiles, PartDtype, Pixels, RowAnswer,
    RowError, RowInput, RowOutput, RowSink, RowTask,
};
use clap::Parser;
use cpu_time::ProcessTime;
use tch::Device;

/// The allocator of blip-serve. It serves LibTorch as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Arguments {
    /// Model folder in the layout of Hugging Face
    #[arg(long)]
    model: PathBuf,
    /// Distinct images in a batch
    #[arg(long, default_value_t = 1)]
    images: usize,
    /// Questions about each image
    #[arg(long, default_value_t = 1)]
    questions: usize,
    /// Tokens of each question, including [CLS] and [SEP]
    #[arg(long, default_value_t = 12)]
    question_tokens: usize,
    /// Tokens of each answer
    #[arg(long, default_value_t = 3)]
    answer_tokens: i64,
    /// Ask about the same images in every turn, so that they are cached
    #[arg(long)]
    cached: bool,
    /// Measured turns
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Compute threads
    #[arg(long, default_value_t = 1)]
    threads: i32,
    /// Measured variants, by name [default: all]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// An implementation of the model, with its results.
#[derive(Debug)]
struct Variant {
    name: &'static str,
    model: Model,
    /// CPU time and wall-clock time of each turn, in seconds.
    turns: Vec<[f64; 2]>,
    /// Token ids of the last answers.
    answers: Vec<Vec<i64>>,
}

impl Variant {
    /// Returns the minimum CPU time, the minimum and the median of the wall-clock time, in seconds.
    fn times(&self) -> [f64; 3] {
        let sorted = |part: usize| {
            let mut times: Vec<f64> = self.turns.iter().filter_map(|turn| turn.get(part).copied()).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let (cpu, clock) = (sorted(0), sorted(1));
        let at = |times: &[f64], index: usize| times.get(index).copied().unwrap_or(f64::NAN);
        [at(&cpu, 0), at(&clock, 0), at(&clock, clock.len() / 2)]
    }
}

/// Collects the results of rows.
#[derive(Debug, Default)]
struct Answers(Vec<(usize, Result<RowAnswer, RowError>)>);

impl RowSink for Answers {
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>) {
        self.0.push((row, outcome));
    }

    fn is_cancelled(&self, _row: usize) -> bool {
        false
    }
}

/// Returns a reproducible random number (splitmix64).
fn random(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 31)
}

/// Runs one batch, and returns its CPU time and wall-clock time in seconds, and its outputs.
///
/// Turns with different numbers have different images.
fn turn(
    model: &mut Model,
    number: u64,
    pixels: &[Pixels],
    questions: &[Vec<i64>],
) -> Result<([f64; 2], Vec<RowOutput>)> {
    let digest = |image: usize| {
        let mut digest = [0; 32];
        let bytes = random(number).to_le_bytes().into_iter().chain(image.to_le_bytes());
        digest.iter_mut().zip(bytes).for_each(|(target, byte)| *target = byte);
        digest
    };
    let images: Vec<ImageInput<'_>> = pixels
        .iter()
        .enumerate()
        .map(|(image, pixels)| ImageInput { digest: digest(image), pixels })
        .collect();
    let rows: Vec<RowInput<'_>> = questions
        .iter()
        .enumerate()
        .map(|(row, token_ids)| RowInput {
            image: Some(row % images.len()),
            token_ids,
            task: &RowTask::GREEDY,
        })
        .collect();
    let mut answers = Answers::default();
    let (cpu_start, start) = (ProcessTime::try_now()?, Instant::now());
    model.run(&images, &rows, &mut answers)?;
    let seconds = [cpu_start.try_elapsed()?.as_secs_f64(), start.elapsed().as_secs_f64()];
    answers.0.sort_by_key(|(row, _)| *row);
    let outputs = answers.0.into_iter().map(|(_, answer)| Ok(answer?.output)).collect::<Result<_>>()?;
    Ok((seconds, outputs))
}

/// Returns the token ids of an answer.
fn tokens(output: &RowOutput) -> Vec<i64> {
    match output {
        RowOutput::Generated(sequences) => sequences.iter().flat_map(|best| best.token_ids.clone()).collect(),
        _ => Vec::new(),
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tch::set_num_threads(arguments.threads);
    let checkpoint = Checkpoint::open(&ModelFiles::Folder(arguments.model.clone()))?;
    let load = |(name, cpu_kernels, vision_dtype, text_dtype)| -> Result<Variant> {
        let mut options = LoadOptions::for_device(Device::Cpu);
        options.max_batch_images = arguments.images.max(1);
        options.max_new_tokens = Some(arguments.answer_tokens);
        (options.cpu_kernels, options.vision_dtype, options.text_dtype) =
            (cpu_kernels, vision_dtype, text_dtype);
        let model = Model::load(&checkpoint, Device::Cpu, Dtype::F32, options)?;
        Ok(Variant { name, model, turns: Vec::new(), answers: Vec::new() })
    };
    let mut variants = [
        ("libtorch", CpuKernels::LibTorch, PartDtype::AsModel, PartDtype::AsModel),
        ("auto", CpuKernels::Auto, PartDtype::AsModel, PartDtype::AsModel),
        ("auto, bf16 texts", CpuKernels::Auto, PartDtype::AsModel, PartDtype::Bf16),
        ("auto, int8 images", CpuKernels::Auto, PartDtype::Int8, PartDtype::AsModel),
    ]
    .into_iter()
    .filter(|(name, ..)| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name))
    .map(load)
    .collect::<Result<Vec<_>>>()?;

    let (height, width) = (checkpoint.preprocessor().height(), checkpoint.preprocessor().width());
    let pixels = (0..arguments.images as u64)
        .map(|image| {
            let bytes = (0..(height * width * 3) as u64).map(|index| random(image << 32 | index) as u8);
            Pixels::new(height, width, bytes.collect())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let vocabulary = u64::try_from(checkpoint.config().text.vocab_size)?;
    let questions: Vec<Vec<i64>> = (0..(arguments.images * arguments.questions) as u64)
        .map(|row| {
            let tokens = 0..arguments.question_tokens as u64;
            tokens.map(|index| (random(row << 16 | index) % vocabulary) as i64).collect()
        })
        .collect();

    // The first turn allocates buffers. The cross-attention cache admits an image after several
    // uses.
    let warm_up = if arguments.cached { 8 } else { 1 };
    for number in 0..warm_up + arguments.turns as u64 {
        let images = if arguments.cached { 0 } else { number };
        for Variant { model, turns, answers, .. } in &mut variants {
            let (seconds, outputs) = turn(model, images, &pixels, &questions)?;
            if number >= warm_up {
                turns.push(seconds);
            }
            *answers = outputs.iter().map(tokens).collect();
        }
    }
    println!(
        "{} {} images x {} questions, {} threads: least CPU time, least and median wall-clock time",
        arguments.images,
        if arguments.cached { "cached" } else { "new" },
        arguments.questions,
        arguments.threads,
    );
    let first = variants.first().filter(|first| !first.answers.is_empty()).context("no questions")?;
    for variant in &variants {
        let Variant { name, answers, .. } = variant;
        let ([cpu, clock, median], [first_cpu, first_clock, first_median]) = (variant.times(), first.times());
        let different = first.answers.iter().zip(answers).filter(|(one, other)| one != other).count();
        println!(
            "{name:>22}: {:8.2} ms, {:8.2} ms, {:8.2} ms, speedup {:.2}, {:.2} and {:.2}, {different} of {} \
             answers differ",
            cpu * 1e3,
            clock * 1e3,
            median * 1e3,
            first_cpu / cpu,
            first_clock / clock,
            first_median / median,
            answers.len(),
        );
    }
    Ok(())
}
