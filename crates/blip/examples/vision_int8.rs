//! How much quicker new images are with the encoder's products in 8-bit integers, on the CPU, beside f32 in one process.
//!
//! ```text
//! cargo run --release -p blip --example vision_int8 -- --model DIR
//! ```
//!
//! Both models answer the same questions in turn. The least CPU time of each counts, which other work on the machine
//! disturbs little. Pictures and questions are random numbers: the work does not depend on what they show.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::path::PathBuf;

use anyhow::{Context, Result};
use blip::{
    Checkpoint, Dtype, ImageInput, Model, ModelFiles, ModelOptions, Pixels, RowAnswer, RowError, RowInput,
    RowOutput, RowSink, RowTask, VisionDtype,
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
    /// Turns that are timed.
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Threads to compute with.
    #[arg(long, default_value_t = 1)]
    threads: i32,
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

/// Asks about images that no turn before has seen; seconds of CPU time, and what came of it.
fn turn(
    model: &mut Model,
    number: u64,
    pictures: &[Pixels],
    questions: &[Vec<i64>],
) -> Result<(f64, Vec<RowOutput>)> {
    let key = |picture: usize| {
        let mut key = [0; 32];
        let numbers = random(number).to_le_bytes().into_iter().chain(picture.to_le_bytes());
        key.iter_mut().zip(numbers).for_each(|(place, byte)| *place = byte);
        key
    };
    let images: Vec<ImageInput<'_>> = pictures
        .iter()
        .enumerate()
        .map(|(picture, pixels)| ImageInput { key: key(picture), pixels })
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
    let begin = ProcessTime::try_now()?;
    model.run(&images, &rows, &mut answers)?;
    let took = begin.try_elapsed()?.as_secs_f64();
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
    let load = |vision_dtype| {
        let mut options = ModelOptions::for_device(Device::Cpu);
        options.max_batch_images = arguments.images.max(1);
        options.max_new_tokens = Some(arguments.answer_tokens);
        options.vision_dtype = vision_dtype;
        Model::load(&checkpoint, Device::Cpu, Dtype::F32, options)
    };
    let mut models = [load(VisionDtype::AsModel)?, load(VisionDtype::Int8)?];

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

    let mut least = [f64::INFINITY; 2];
    let mut answers = [Vec::new(), Vec::new()];
    // The first turn makes what is made once.
    for number in 0..=arguments.turns as u64 {
        for ((model, least), answers) in models.iter_mut().zip(&mut least).zip(&mut answers) {
            let (took, outputs) = turn(model, number, &pictures, &questions)?;
            if number > 0 {
                *least = least.min(took);
            }
            *answers = outputs.iter().map(tokens).collect();
        }
    }
    let [float, int8] = least;
    let [float_answers, int8_answers] = answers;
    let different = float_answers.iter().zip(&int8_answers).filter(|(one, other)| one != other).count();
    let count = Some(float_answers.len()).filter(|&count| count > 0).context("nothing was asked")?;
    println!(
        "{} images x {} questions, {} threads, CPU time: f32 {:.1} ms, int8 {:.1} ms, {:.2} times as quick; \
         {different} of {count} answers differ",
        arguments.images,
        arguments.questions,
        arguments.threads,
        float * 1e3,
        int8 * 1e3,
        float / int8
    );
    Ok(())
}
