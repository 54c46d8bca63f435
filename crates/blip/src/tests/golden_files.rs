//! Readers of the reference checkpoints below `tests`: folders, tensors, images, and the outcome of
//! a batch.

use std::{fs, path::PathBuf};

use safetensors::SafeTensors;
use serde::{Deserialize, de::DeserializeOwned};
use tch::{Device, Kind, Tensor};

use crate::{
    Checkpoint, CheckpointOptions, CpuKernels, Dtype, ImageDigest, ImageInput, ModelFiles, Pixels, RowAnswer,
    RowError, RowInput, RowSink, RowTask, Sequence, VisionDtype, model::Model, options::LoadOptions,
};

/// A folder below `tests` with a checkpoint and what was expected of it.
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

/// A tensor of a safetensors file of f32, u8 and i64.
pub(crate) fn tensor(file: &[u8], name: &str) -> Tensor {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let view = tensors.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    let kind = match view.dtype() {
        safetensors::Dtype::F32 => Kind::Float,
        safetensors::Dtype::U8 => Kind::Uint8,
        safetensors::Dtype::I64 => Kind::Int64,
        other => panic!("{name} is of {other:?}"),
    };
    Tensor::from_data_size(view.data(), &shape, kind)
}

/// `[height, width, 3]` of u8.
pub(crate) fn pixels(values: &Tensor) -> Pixels {
    let (height, width, _) = values.size3().unwrap();
    let data = Vec::<u8>::try_from(values.flatten(0, -1)).unwrap();
    Pixels::new(height as usize, width as usize, data).unwrap()
}

/// The pictures of a batch.
pub(crate) fn inputs(images: &[Pixels]) -> Vec<ImageInput<'_>> {
    images.iter().map(|pixels| ImageInput { digest: key(pixels), pixels }).collect()
}

/// A checkpoint for question answering, with the reference's answers.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) checkpoint: Checkpoint,
    /// Whose kernels its models compute with.
    pub(crate) kernels: CpuKernels,
    pub(crate) cases: Vec<Case>,
}

/// What the reference computed for one question asked alone.
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

/// All of them, with our own kernels and with LibTorch's.
pub(crate) fn goldens() -> Vec<Golden> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let both = |folder: PathBuf| {
        [CpuKernels::Native, CpuKernels::LibTorch].map(|kernels| Golden { kernels, ..read(folder.clone()) })
    };
    folders.into_iter().flat_map(both).collect()
}

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

/// Undoes the reference's normalisation: its values came from 8-bit pixels, and rounding finds them again.
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
        self.model_in(dtype, VisionDtype::AsModel)
    }

    pub(crate) fn model_in(&self, dtype: Dtype, vision_dtype: VisionDtype) -> Model {
        let mut options = LoadOptions { vision_dtype, ..self.options() };
        if dtype != Dtype::F32 {
            options.cpu_kernels = CpuKernels::Auto;
        }
        self.model_with(dtype, options)
    }

    /// What models of these tests are loaded with.
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

/// Remembers every row's outcome, and that none came twice.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) outcomes: Vec<Option<Result<RowAnswer, RowError>>>,
    pub(crate) order: Vec<usize>,
    pub(crate) cancelled: Vec<usize>,
    pub(crate) steps: u32,
    /// Images whose keys and values were kept.
    pub(crate) cached: usize,
    /// Row, index and token of each token that was reported as it was chosen.
    pub(crate) tokens: Vec<(usize, usize, i64)>,
}

impl Collected {
    /// Creates a sink for `rows` rows.
    pub(crate) fn for_rows(rows: usize) -> Self {
        Self { outcomes: vec![None; rows], ..Self::default() }
    }

    /// What a row wrote.
    pub(crate) fn sequence(&self, row: usize) -> Sequence {
        let answer = self.outcomes[row].clone().unwrap().unwrap();
        answer.output.best().unwrap().clone()
    }
}

impl RowSink for Collected {
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>) {
        self.order.push(row);
        let before = self.outcomes[row].replace(outcome);
        assert!(before.is_none(), "row {row} finished twice");
    }

    fn is_cancelled(&self, row: usize) -> bool {
        self.cancelled.contains(&row)
    }

    fn token(&mut self, row: usize, index: usize, token: i64) {
        self.tokens.push((row, index, token));
    }

    fn decode_steps(&mut self, steps: u32) {
        assert_eq!(self.steps, 0, "steps are said once");
        self.steps = steps;
    }

    fn key_values(&mut self, cached: usize, images: usize) {
        assert!(cached <= images);
        self.cached += cached;
    }
}

/// Runs one batch of cases; cases with equal pixels share an image.
pub(crate) fn run(model: &mut Model, cases: &[&Case], cancelled: Vec<usize>) -> Collected {
    let mut images: Vec<ImageInput<'_>> = Vec::new();
    let questions: Vec<RowInput<'_>> = cases
        .iter()
        .map(|case| {
            let same = images.iter().position(|image| image.pixels.data() == case.pixels.data());
            let image = same.unwrap_or_else(|| {
                images.push(ImageInput { digest: key(&case.pixels), pixels: &case.pixels });
                images.len() - 1
            });
            RowInput { image: Some(image), token_ids: &case.input_ids, task: &RowTask::GREEDY }
        })
        .collect();
    let mut rows = Collected { outcomes: vec![None; questions.len()], cancelled, ..Collected::default() };
    model.run(&images, &questions, &mut rows).unwrap();
    rows
}

/// A stand-in for a digest that tells the few pictures of a test apart.
pub(crate) fn key(pixels: &Pixels) -> ImageDigest {
    let mut key = [0u8; 32];
    for (index, &byte) in pixels.data().iter().enumerate() {
        let slot = &mut key[index % 32];
        *slot = slot.wrapping_mul(31).wrapping_add(byte);
    }
    key
}
