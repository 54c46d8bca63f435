//! Times batches that another program describes, without server and scheduler.
//!
//! `benches/cpu` runs it next to other engines. Each line of standard input is a batch in JSON, and
//! each line of standard output its result. The first line of output says that the model is loaded.
//! Image `n` is the `n`th of the RGB images in `--pixels`. Its questions are the rows
//! `n * questions` and following in `--token-ids`.
//!
//! ```text
//! timed_batches --model DIR --pixels images.rgb --token-ids questions.json --vision-dtype int8
//! {"images": [0, 1], "questions": 6, "cached": false}
//! ```
#![expect(clippy::print_stdout, reason = "a command-line program")]
#![expect(clippy::disallowed_types, reason = "measures real time")]

use std::{
    collections::HashSet,
    io::{BufRead as _, Write as _},
    num::NonZeroUsize,
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use blip::{
    Checkpoint, Dtype, ImageDigest, ImageInput, LoadOptions, Model, ModelFiles, PartDtype, Pixels, RowAnswer,
    RowError, RowInput, RowOutput, RowSink, RowTask,
};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Device;

/// The allocator of blip-serve. It serves LibTorch as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Uses of an image after which the cross-attention cache has admitted it.
const USES_UNTIL_CACHED: usize = 8;

#[derive(Debug, Parser)]
struct Arguments {
    /// Model folder in the layout of Hugging Face
    #[arg(long)]
    model: PathBuf,
    /// File of RGB images at the model's size, one after the other
    #[arg(long)]
    pixels: PathBuf,
    /// JSON file with a list of questions as token ids
    #[arg(long)]
    token_ids: PathBuf,
    /// Number format of the model: f32, bf16 or int8
    #[arg(long, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Number format of the image encoder: auto, bf16 or int8
    #[arg(long, default_value_t)]
    vision_dtype: PartDtype,
    /// Number format of text encoder and decoder: auto, bf16 or int8
    #[arg(long, default_value_t)]
    text_dtype: PartDtype,
    /// Maximum tokens of an answer
    #[arg(long, default_value_t = 3)]
    answer_tokens: i64,
    /// Compute threads
    #[arg(long, default_value = "2")]
    threads: NonZeroUsize,
}

/// A batch.
#[derive(Debug, Deserialize)]
struct BatchRequest {
    images: Vec<usize>,
    /// Questions about each image.
    questions: usize,
    /// Whether the model may use what it has stored about the images.
    cached: bool,
}

/// The result of a batch.
#[derive(Debug, Serialize)]
struct BatchResult {
    ms: f64,
    /// Token ids of each row's answer.
    answers: Vec<Vec<i64>>,
}

/// Answers by row index.
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

/// The model with its images and questions.
#[derive(Debug)]
struct Engine {
    model: Model,
    pixels: Vec<Pixels>,
    questions: Vec<Vec<i64>>,
    /// Batches of images that are cached.
    cached: HashSet<Vec<usize>>,
    new_images: usize,
}

impl Engine {
    /// Runs a batch. A batch of cached images that is new to the model runs unmeasured before.
    fn run(&mut self, request: &BatchRequest) -> Result<BatchResult> {
        if request.cached && self.cached.insert(request.images.clone()) {
            for _ in 0..USES_UNTIL_CACHED {
                self.measure(request)?;
            }
        }
        self.measure(request)
    }

    fn measure(&mut self, request: &BatchRequest) -> Result<BatchResult> {
        // No other image has had these digests.
        let first_new = self.pixels.len() + self.new_images;
        if !request.cached {
            self.new_images += request.images.len();
        }
        let images = request.images.iter().enumerate().map(|(index, &image)| {
            let digest = digest(if request.cached { image } else { first_new + index });
            Ok(ImageInput { digest, pixels: self.pixels.get(image).context("unknown image")? })
        });
        let images = images.collect::<Result<Vec<_>>>()?;
        let rows = request.images.iter().enumerate().flat_map(|(index, &image)| {
            let questions = self.questions.iter().cycle().skip(image * request.questions);
            questions.take(request.questions).map(move |token_ids| RowInput {
                image: Some(index),
                token_ids,
                task: &RowTask::GREEDY,
            })
        });
        let rows: Vec<_> = rows.collect();
        let mut answers = Answers::default();
        let start = Instant::now();
        self.model.run(&images, &rows, &mut answers)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        answers.0.sort_by_key(|(row, _)| *row);
        let answers = answers.0.into_iter().map(|(_, answer)| token_ids(answer?.output));
        Ok(BatchResult { ms, answers: answers.collect::<Result<_>>()? })
    }
}

fn digest(number: usize) -> ImageDigest {
    let mut digest = [0; 32];
    digest.iter_mut().zip(number.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    digest
}

fn token_ids(output: RowOutput) -> Result<Vec<i64>> {
    match output {
        RowOutput::Generated(sequences) => Ok(sequences.into_iter().next().context("no answer")?.token_ids),
        other => bail!("unexpected output: {other:?}"),
    }
}

fn print(line: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(std::io::stdout().flush()?)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tch::set_num_threads(i32::try_from(arguments.threads.get())?);
    let checkpoint = Checkpoint::open(&ModelFiles::Folder(arguments.model))?;
    let mut options = LoadOptions::for_device(Device::Cpu);
    options.max_new_tokens = Some(arguments.answer_tokens);
    options.threads = Some(arguments.threads);
    (options.vision_dtype, options.text_dtype) = (arguments.vision_dtype, arguments.text_dtype);
    let model = Model::load(&checkpoint, Device::Cpu, arguments.dtype, options)?;
    let side = usize::try_from(checkpoint.config().vision.image_size)?;
    let pixels = std::fs::read(arguments.pixels)?;
    let pixels = pixels.chunks_exact(side * side * 3).map(|image| Pixels::new(side, side, image.to_vec()));
    let pixels = pixels.collect::<Result<_, _>>()?;
    let questions = serde_json::from_slice(&std::fs::read(arguments.token_ids)?)?;
    let mut engine = Engine { model, pixels, questions, cached: HashSet::new(), new_images: 0 };
    print(&json!({ "ready": true }))?;
    for line in std::io::stdin().lock().lines() {
        let request: BatchRequest = serde_json::from_str(&line?).context("invalid batch")?;
        print(&engine.run(&request)?)?;
    }
    Ok(())
}
