//! Readers of the golden files below `crates/blip/tests`, and a collector of a batch's outcomes.

use std::{fs, path::PathBuf};

use safetensors::SafeTensors;
use serde::{Deserialize, de::DeserializeOwned};
use tch::{Device, Kind, Tensor};

use crate::{
    Checkpoint, CheckpointOptions, CpuKernels, Dtype, ImageDigest, ImageInput, ModelFiles, PartDtype, Pixels,
    RowAnswer, RowError, RowInput, RowSink, RowTask, Sequence, model::Model, options::LoadOptions,
};

/// A folder with a checkpoint, `expected.json` and `expected.safetensors`.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    tensors: Vec<u8>,
}

impl Folder {
    pub(crate) fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
        Self::at(path)
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        let tensors = fs::read(path.join("expected.safetensors")).unwrap();
        Self { path, tensors }
    }

    pub(crate) fn checkpoint(&self, options: CheckpointOptions) -> Checkpoint {
        Checkpoint::open_with(&ModelFiles::Folder(self.path.clone()), options).unwrap()
    }

    pub(crate) fn expected<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&fs::read(self.path.join("expected.json")).unwrap()).unwrap()
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        tensor(&self.tensors, name)
    }

    pub(crate) fn pixels(&self, name: &str) -> Pixels {
        pixels(&self.tensor(name))
    }
}

/// Returns a tensor of f32, u8 or i64 from the bytes of a safetensors file.
pub(crate) fn tensor(file: &[u8], name: &str) -> Tensor {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let view = tensors.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    let kind = match view.dtype() {
        safetensors::Dtype::F32 => Kind::Float,
        safetensors::Dtype::U8 => Kind::Uint8,
        safetensors::Dtype::I64 => Kind::Int64,
        other => panic!("type of {name}: {other:?}, expected f32, u8 or i64"),
    };
    Tensor::from_data_size(view.data(), &shape, kind)
}

/// Returns the image of a u8 tensor `[height, width, 3]`.
pub(crate) fn pixels(values: &Tensor) -> Pixels {
    let (height, width, _) = values.size3().unwrap();
    let data = Vec::<u8>::try_from(values.flatten(0, -1)).unwrap();
    Pixels::new(height as usize, width as usize, data).unwrap()
}

/// Returns the images of a batch, each with its test digest.
pub(crate) fn image_inputs(images: &[Pixels]) -> Vec<ImageInput<'_>> {
    images.iter().map(|pixels| ImageInput { digest: test_digest(pixels), pixels }).collect()
}

/// A question answering checkpoint with the reference's answers.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) checkpoint: Checkpoint,
    /// The CPU kernels of the models that tests load from it.
    pub(crate) kernels: CpuKernels,
    pub(crate) cases: Vec<Case>,
}

/// The results of the reference for one question in a batch of one.
pub(crate) struct Case {
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) score: f32,
    pub(crate) pixels: Pixels,
    pub(crate) input_ids: Vec<i64>,
    pub(crate) generated_ids: Vec<i64>,
    pub(crate) image_embeds: Tensor,
    pub(crate) question_states: Tensor,
    pub(crate) step_logits: Tensor,
}

#[derive(Deserialize)]
struct Expected {
    cases: Vec<ExpectedCase>,
}

#[derive(Deserialize)]
struct ExpectedCase {
    question: String,
    answer: String,
    score: f32,
}

/// Returns each question answering golden twice: for native CPU kernels and for LibTorch's.
pub(crate) fn goldens() -> Vec<Golden> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let for_both_kernels = |folder: PathBuf| {
        [CpuKernels::Native, CpuKernels::LibTorch].map(|kernels| Golden { kernels, ..read(folder.clone()) })
    };
    folders.into_iter().flat_map(for_both_kernels).collect()
}

/// Returns the question answering golden `name`, for the default CPU kernels.
pub(crate) fn golden(name: &str) -> Golden {
    read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name))
}

fn read(path: PathBuf) -> Golden {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let folder = Folder::at(path);
    let checkpoint = folder.checkpoint(CheckpointOptions::default());
    let cases = folder.expected::<Expected>().cases.into_iter().enumerate().map(|(index, case)| {
        let tensor = |name: &str| folder.tensor(&format!("case{index}.{name}"));
        let ids = |name: &str| Vec::<i64>::try_from(tensor(name)).unwrap();
        Case {
            question: case.question,
            answer: case.answer,
            score: case.score,
            pixels: denormalized(&checkpoint, &tensor("pixel_values")),
            input_ids: ids("input_ids"),
            generated_ids: ids("generated_ids"),
            image_embeds: tensor("image_embeds"),
            question_states: tensor("question_states"),
            step_logits: tensor("step_logits"),
        }
    });
    let cases = cases.collect();
    Golden { name, checkpoint, kernels: CpuKernels::Auto, cases }
}

/// Restores the 8-bit pixels of the reference's normalized values. Rounding makes them exact.
fn denormalized(checkpoint: &Checkpoint, values: &Tensor) -> Pixels {
    let (scale, offset) = checkpoint.preprocessor().normalisation();
    let channel = |numbers: [f32; 3]| Tensor::from_slice(&numbers).view([3, 1, 1]);
    let bytes = ((values - channel(offset)) / channel(scale)).round().permute([1, 2, 0]).contiguous();
    let data = Vec::<f32>::try_from(bytes.flatten(0, -1)).unwrap();
    let (height, width) = (checkpoint.preprocessor().height(), checkpoint.preprocessor().width());
    Pixels::new(height, width, data.into_iter().map(|value| value as u8).collect()).unwrap()
}

impl Golden {
    pub(crate) fn model(&self, dtype: Dtype) -> Model {
        self.model_in(dtype, PartDtype::AsModel)
    }

    pub(crate) fn model_in(&self, dtype: Dtype, vision_dtype: PartDtype) -> Model {
        let mut options = LoadOptions { vision_dtype, ..self.options() };
        if dtype == Dtype::F16 {
            options.cpu_kernels = CpuKernels::Auto;
        }
        self.model_with(dtype, options)
    }

    /// Returns the load options of golden models: no feature cache, kernels of this golden.
    pub(crate) fn options(&self) -> LoadOptions {
        LoadOptions {
            feature_cache_bytes: 0,
            cpu_kernels: self.kernels,
            ..LoadOptions::for_device(Device::Cpu)
        }
    }

    pub(crate) fn model_with(&self, dtype: Dtype, options: LoadOptions) -> Model {
        Model::load(&self.checkpoint, Device::Cpu, dtype, options).unwrap()
    }
}

/// A row sink that stores all reports of a batch and asserts that each row ends once.
#[derive(Default)]
pub(crate) struct RowCollector {
    pub(crate) outcomes: Vec<Option<Result<RowAnswer, RowError>>>,
    /// Rows in the order in which they ended.
    pub(crate) order: Vec<usize>,
    /// Rows that the sink reports as cancelled.
    pub(crate) cancelled: Vec<usize>,
    pub(crate) steps: u32,
    /// Number of images whose keys and values were cached before the batch.
    pub(crate) cached: usize,
    /// Row, index and id of each reported token.
    pub(crate) tokens: Vec<(usize, usize, i64)>,
}

impl RowCollector {
    /// Creates a collector for `rows` rows.
    pub(crate) fn for_rows(rows: usize) -> Self {
        Self { outcomes: vec![None; rows], ..Self::default() }
    }

    /// Returns the best sequence of a row.
    pub(crate) fn sequence(&self, row: usize) -> Sequence {
        let answer = self.outcomes[row].clone().unwrap().unwrap();
        answer.output.best().unwrap().clone()
    }
}

impl RowSink for RowCollector {
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>) {
        self.order.push(row);
        let previous = self.outcomes[row].replace(outcome);
        assert!(previous.is_none(), "row {row} has two outcomes");
    }

    fn is_cancelled(&self, row: usize) -> bool {
        self.cancelled.contains(&row)
    }

    fn token(&mut self, row: usize, index: usize, token: i64) {
        self.tokens.push((row, index, token));
    }

    fn decode_steps(&mut self, steps: u32) {
        assert_eq!(self.steps, 0, "decoding steps are reported twice");
        self.steps = steps;
    }

    fn key_values(&mut self, cached: usize, images: usize) {
        assert!(cached <= images);
        self.cached += cached;
    }
}

/// Runs `cases` in one batch. Cases with equal pixels share an image.
pub(crate) fn run_cases(model: &mut Model, cases: &[&Case], cancelled: Vec<usize>) -> RowCollector {
    let mut images: Vec<ImageInput<'_>> = Vec::new();
    let questions: Vec<RowInput<'_>> = cases
        .iter()
        .map(|case| {
            let same = images.iter().position(|image| image.pixels.data() == case.pixels.data());
            let image = same.unwrap_or_else(|| {
                images.push(ImageInput { digest: test_digest(&case.pixels), pixels: &case.pixels });
                images.len() - 1
            });
            RowInput { image: Some(image), token_ids: &case.input_ids, task: &RowTask::GREEDY }
        })
        .collect();
    let mut rows = RowCollector { cancelled, ..RowCollector::for_rows(questions.len()) };
    model.run(&images, &questions, &mut rows).unwrap();
    rows
}

/// Returns a cheap digest that differs for the few images of a test.
pub(crate) fn test_digest(pixels: &Pixels) -> ImageDigest {
    let mut digest = [0u8; 32];
    for (index, &byte) in pixels.data().iter().enumerate() {
        let slot = &mut digest[index % 32];
        *slot = slot.wrapping_mul(31).wrapping_add(byte);
    }
    digest
}
