//! Runs batches that another program describes. The tests on the CUDA stand-in use it.
//!
//! Each line of standard input is a batch in JSON, and each line of standard output its result. The
//! first line of output says that the model is loaded. Images and questions have arbitrary content,
//! because the work does not depend on it.
//!
//! ```text
//! batch_runner --model DIR --device cuda --dtype f16
//! {"images": [1, 2], "questions": [{"image": 0, "tokens": 9, "max_new_tokens": 3}]}
//! ```
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::{
    io::{BufRead as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use blip::{
    Checkpoint, CudaGelu, CudaKernels, DeviceRequest, Dtype, Generation, ImageDigest, ImageInput,
    LoadOptions, Model, ModelError, ModelFiles, PartDtype, Pixels, RowAnswer, RowError, RowInput, RowSink,
    RowTask, open_device,
};
use clap::{ArgAction, Parser};
use cpu_time::ThreadTime;
use serde::{Deserialize, Serialize};

#[derive(Debug, Parser)]
struct Arguments {
    /// Model folder in the layout of Hugging Face
    #[arg(long)]
    model: PathBuf,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceRequest,
    /// Number format: f32, f16 or bf16
    #[arg(long)]
    dtype: Dtype,
    /// Number format of the image encoder: auto or fp8
    #[arg(long, default_value_t)]
    vision_dtype: PartDtype,
    /// Launch small batches as CUDA graphs
    #[arg(long, default_value_t = true, require_equals = true, action = ArgAction::Set)]
    cuda_graphs: bool,
    /// Kernels between the matrix products on CUDA: auto, native or libtorch
    #[arg(long, default_value_t)]
    cuda_kernels: CudaKernels,
    /// Form of GELU on CUDA: exact or tanh
    #[arg(long, default_value_t)]
    cuda_gelu: CudaGelu,
    /// Maximum tokens of an answer
    #[arg(long, default_value_t = 10)]
    max_new_tokens: i64,
}

/// A batch.
#[derive(Debug, Deserialize)]
struct BatchRequest {
    /// A number for each image. Equal numbers are the same image.
    images: Vec<u64>,
    questions: Vec<Question>,
}

#[derive(Debug, Deserialize)]
struct Question {
    /// Index into the images.
    image: usize,
    /// Length in tokens.
    tokens: usize,
    max_new_tokens: u32,
    /// Whether the answer has an attention map.
    explain: bool,
}

/// The result of a batch.
#[derive(Debug, Default, Serialize)]
struct BatchResult {
    /// Rows with an answer.
    answers: usize,
    /// Messages of rows with an error.
    row_errors: Vec<String>,
    /// The class of the batch's error, and its message.
    error: Option<(&'static str, String)>,
    /// CPU time of this thread.
    cpu_us: u128,
}

impl RowSink for BatchResult {
    fn finish(&mut self, _row: usize, outcome: Result<RowAnswer, RowError>) {
        match outcome {
            Ok(_) => self.answers += 1,
            Err(error) => self.row_errors.push(error.to_string()),
        }
    }

    fn is_cancelled(&self, _row: usize) -> bool {
        false
    }
}

fn class_of(error: &ModelError) -> &'static str {
    match error {
        ModelError::BadBatch(_) => "bad_batch",
        ModelError::OutOfMemory { .. } => "out_of_memory",
        ModelError::Fatal(_) => "fatal",
        ModelError::Torch(_) => "torch",
    }
}

fn digest(number: u64) -> ImageDigest {
    let mut digest = [0; 32];
    digest.iter_mut().zip(number.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    digest
}

fn run(model: &mut Model, pixels: &Pixels, request: &BatchRequest) -> BatchResult {
    let images: Vec<_> =
        request.images.iter().map(|&number| ImageInput { digest: digest(number), pixels }).collect();
    let texts: Vec<(Vec<i64>, RowTask)> = request
        .questions
        .iter()
        .map(|question| {
            let max_new_tokens = Some(question.max_new_tokens);
            let generation = Generation { max_new_tokens, explain: question.explain, ..Generation::GREEDY };
            (vec![5; question.tokens], RowTask::Generate(generation))
        })
        .collect();
    let rows: Vec<_> = request
        .questions
        .iter()
        .zip(&texts)
        .map(|(question, (token_ids, task))| RowInput { image: Some(question.image), token_ids, task })
        .collect();
    let mut result = BatchResult::default();
    let begin = ThreadTime::now();
    if let Err(error) = model.run(&images, &rows, &mut result) {
        result.error = Some((class_of(&error), error.to_string()));
    }
    result.cpu_us = begin.elapsed().as_micros();
    result
}

fn print(line: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(std::io::stdout().flush()?)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let device = open_device(arguments.device)?.device;
    if device.is_cuda() {
        tch::set_num_threads(1);
    }
    let checkpoint = Checkpoint::open(&ModelFiles::Folder(arguments.model))?;
    let mut options = LoadOptions::for_device(device);
    options.vision_dtype = arguments.vision_dtype;
    options.cuda_graphs = arguments.cuda_graphs;
    options.cuda_kernels = arguments.cuda_kernels;
    options.cuda_gelu = arguments.cuda_gelu;
    options.max_new_tokens = Some(arguments.max_new_tokens);
    let mut model = Model::load(&checkpoint, device, arguments.dtype, options)?;
    let side = usize::try_from(checkpoint.config().vision.image_size)?;
    let pixels = Pixels::new(side, side, vec![127; side * side * 3])?;
    print(&"loaded")?;
    for line in std::io::stdin().lock().lines() {
        let request: BatchRequest = serde_json::from_str(&line?).context("invalid batch")?;
        print(&run(&mut model, &pixels, &request))?;
    }
    Ok(())
}
