//! The ways to compute a model on the CPU beside one another in one process: LibTorch's kernels and our own, in f32 and with the
//! image encoder's products in 8-bit integers.
//!
//! ```text
//! cargo run --release -p blip --example cpu_variants -- --model DIR
//! ```
//!
//! All answer the same questions in turn. The least CPU time of each counts, which other work on the machine
//! disturbs little, and beside it the least time on the clock. Pictures and questions are random numbers: the work does not depend on what they show.
#![expect(clippy::print_stdout, reason = "a command-line program")]
#![expect(clippy::disallowed_types, reason = "measures real time")]

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use blip::{
    Checkpoint, CpuKernels, Dtype, ImageInput, LoadOptions, Model, ModelFiles, Pixels, RowAnswer, RowError,
    RowInput, RowOutput, RowSink, RowTask, VisionDtype,
};
use clap::Parser;
use cpu_time::ProcessTime;
use tch::Device;

/// The program's own, LibTorch's memory with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Arguments {
    /// A model folder in Hugging Face's layout.
    #[arg(long)]
    model: PathBuf,
    /// Distinct images of a batch.
    #[arg(long, default_value_t = 1)]
    images: usize,
    /// Questions about each.
    #[arg(long, default_value_t = 1)]
    questions: usize,
    /// Tokens of each question, `[CLS]` and `[SEP]` included.
    #[arg(long, default_value_t = 12)]
    question_tokens: usize,
    /// Tokens of each answer.
    #[arg(long, default_value_t = 3)]
    answer_tokens: i64,
    /// Ask about the same images in every turn, instead of new ones.
    #[arg(long)]
    remembered: bool,
    /// Turns that are timed.
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Threads to compute with.
    #[arg(long, default_value_t = 1)]
    threads: i32,
}

/// A way to compute the model, with the least CPU time and time on the clock of its turns in seconds, and the tokens of its last
/// answers.
#[derive(Debug)]
struct Variant {
    name: &'static str,
    model: Model,
    least: [f64; 2],
    answers: Vec<Vec<i64>>,
}

/// Keeps what comes back, in the order of its rows.
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

/// Numbers that look random and are the same at every run (splitmix64).
fn random(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 31)
}

/// Asks about images that no turn of another number has seen; seconds of CPU time and on the clock, and what came of it.
fn turn(
    model: &mut Model,
    number: u64,
    pictures: &[Pixels],
    questions: &[Vec<i64>],
) -> Result<([f64; 2], Vec<RowOutput>)> {
    let key = |picture: usize| {
        let mut key = [0; 32];
        let numbers = random(number).to_le_bytes().into_iter().chain(picture.to_le_bytes());
        key.iter_mut().zip(numbers).for_each(|(place, byte)| *place = byte);
        key
    };
    let images: Vec<ImageInput<'_>> = pictures
        .iter()
        .enumerate()
        .map(|(picture, pixels)| ImageInput { digest: key(picture), pixels })
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
    let (begin, clock) = (ProcessTime::try_now()?, Instant::now());
    model.run(&images, &rows, &mut answers)?;
    let took = [begin.try_elapsed()?.as_secs_f64(), clock.elapsed().as_secs_f64()];
    answers.0.sort_by_key(|(row, _)| *row);
    let outputs = answers.0.into_iter().map(|(_, answer)| Ok(answer?.output)).collect::<Result<_>>()?;
    Ok((took, outputs))
}

/// The tokens of an answer.
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
    let load = |(name, cpu_kernels, vision_dtype)| -> Result<Variant> {
        let mut options = LoadOptions::for_device(Device::Cpu);
        options.max_batch_images = arguments.images.max(1);
        options.max_new_tokens = Some(arguments.answer_tokens);
        (options.cpu_kernels, options.vision_dtype) = (cpu_kernels, vision_dtype);
        let model = Model::load(&checkpoint, Device::Cpu, Dtype::F32, options)?;
        Ok(Variant { name, model, least: [f64::INFINITY; 2], answers: Vec::new() })
    };
    let mut variants = [
        ("LibTorch's kernels", CpuKernels::LibTorch, VisionDtype::AsModel),
        ("our own for images", CpuKernels::Auto, VisionDtype::AsModel),
        ("our own", CpuKernels::Native, VisionDtype::AsModel),
        ("LibTorch's, int8", CpuKernels::LibTorch, VisionDtype::Int8),
        ("our own, int8", CpuKernels::Auto, VisionDtype::Int8),
    ]
    .into_iter()
    .map(load)
    .collect::<Result<Vec<_>>>()?;

    let (height, width) = (checkpoint.preprocessor().height(), checkpoint.preprocessor().width());
    let pictures = (0..arguments.images as u64)
        .map(|picture| {
            let bytes = (0..(height * width * 3) as u64).map(|place| random(picture << 32 | place) as u8);
            Pixels::new(height, width, bytes.collect())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let vocabulary = u64::try_from(checkpoint.config().text.vocab_size)?;
    let questions: Vec<Vec<i64>> = (0..(arguments.images * arguments.questions) as u64)
        .map(|row| {
            let tokens = 0..arguments.question_tokens as u64;
            tokens.map(|place| (random(row << 16 | place) % vocabulary) as i64).collect()
        })
        .collect();

    // The first turn makes what is made once; more of them earn remembered images a place for their keys and values.
    let warm_up = if arguments.remembered { 8 } else { 1 };
    for number in 0..warm_up + arguments.turns as u64 {
        let images = if arguments.remembered { 0 } else { number };
        for Variant { model, least, answers, .. } in &mut variants {
            let (took, outputs) = turn(model, images, &pictures, &questions)?;
            if number >= warm_up {
                least.iter_mut().zip(took).for_each(|(least, took)| *least = least.min(took));
            }
            *answers = outputs.iter().map(tokens).collect();
        }
    }
    println!(
        "{} {} images x {} questions, {} threads, CPU time and time on the clock:",
        arguments.images,
        if arguments.remembered { "remembered" } else { "new" },
        arguments.questions,
        arguments.threads,
    );
    let first = variants.first().filter(|first| !first.answers.is_empty()).context("nothing was asked")?;
    for Variant { name, least: [cpu, clock], answers, .. } in &variants {
        let different = first.answers.iter().zip(answers).filter(|(one, other)| one != other).count();
        println!(
            "{name:>18}: {:8.2} ms, {:8.2} ms, {:.2} and {:.2} times as quick; {different} of {} answers differ",
            cpu * 1e3,
            clock * 1e3,
            first.least[0] / cpu,
            first.least[1] / clock,
            answers.len(),
        );
    }
    Ok(())
}
