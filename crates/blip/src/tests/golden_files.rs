//! The reference checkpoints under `tests/goldens`, as tests read them.

use std::{fs, path::PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::{
    Checkpoint, CpuKernels, Dtype, ImageDigest, ImageInput, ModelFiles, Pixels, RowAnswer, RowError,
    RowInput, RowSink, RowTask, Sequence, VisionDtype, model::Model, options::LoadOptions,
};

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

fn read(folder: PathBuf) -> Golden {
    let checkpoint = Checkpoint::open(&ModelFiles::Folder(folder.clone())).unwrap();
    let expected: Expected =
        serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let cases = expected.cases.into_iter().enumerate().map(|(index, case)| {
        let tensor = |name: &str, kind: Kind| {
            let view = tensors.tensor(&format!("case{index}.{name}")).unwrap();
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            Tensor::from_data_size(view.data(), &shape, kind)
        };
        let ids = |name: &str| Vec::<i64>::try_from(tensor(name, Kind::Int64)).unwrap();
        Case {
            question: case.question,
            answer: case.answer,
            score: case.score,
            pixels: pixels(&checkpoint, &tensor("pixel_values", Kind::Float)),
            input_ids: ids("input_ids"),
            generated_ids: ids("generated_ids"),
            image_embeds: tensor("image_embeds", Kind::Float),
            question_states: tensor("question_states", Kind::Float),
            step_logits: tensor("step_logits", Kind::Float),
        }
    });
    let cases = cases.collect();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    Golden { name, checkpoint, kernels: CpuKernels::Auto, cases }
}

/// Undoes the reference's normalisation: its values came from 8-bit pixels, and rounding finds them again.
fn pixels(checkpoint: &Checkpoint, values: &Tensor) -> Pixels {
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
    pub(crate) kept: usize,
    /// Row, index and token of each token that was reported as it was chosen.
    pub(crate) tokens: Vec<(usize, usize, i64)>,
}

impl Collected {
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

    fn key_values(&mut self, kept: usize, images: usize) {
        assert!(kept <= images);
        self.kept += kept;
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
