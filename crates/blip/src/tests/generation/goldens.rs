//! Reads the goldens of generation and ranking: `generation.json` in each folder of `goldens`.
//!
//! `tests/reference/generate/goldens_generation.py` writes them.

use std::{fs, path::PathBuf};

use serde::Deserialize;

use crate::{
    Checkpoint, Dtype, Generation, ImageInput, ModelFiles, Ranking, RowInput, RowOutput, RowTask, Sampling,
    Sequence,
    model::Model,
    tests::golden_files::{Case, Golden, RowCollector, test_digest},
};

/// The content of `generation.json`.
#[derive(Deserialize)]
pub(super) struct GenerationGoldens {
    pub(super) answers: Vec<ExpectedSearch>,
    pub(super) captions: Vec<ExpectedSearch>,
    pub(super) rankings: Vec<ExpectedRanking>,
}

/// The sequences that the reference returns for one search.
#[derive(Deserialize)]
pub(super) struct ExpectedSearch {
    case: usize,
    prompt: Option<Vec<i64>>,
    options: Options,
    pub(super) sequences: Vec<ExpectedSequence>,
}

#[derive(Deserialize)]
struct Options {
    num_beams: u32,
    max_new_tokens: u32,
    min_length: u32,
    length_penalty: f32,
    repetition_penalty: f32,
    num_sequences: u32,
}

#[derive(Deserialize)]
pub(super) struct ExpectedSequence {
    pub(super) token_ids: Vec<i64>,
    pub(super) score: f32,
}

/// The ranking that the reference returns for one list of candidates.
#[derive(Deserialize)]
pub(super) struct ExpectedRanking {
    case: usize,
    candidates: Vec<Vec<i64>>,
    shortlist: u32,
    pub(super) ranked: Vec<ExpectedCandidate>,
}

#[derive(Deserialize)]
pub(super) struct ExpectedCandidate {
    pub(super) candidate: usize,
    pub(super) score: f32,
    pub(super) probability: f32,
}

impl GenerationGoldens {
    /// Reads `generation.json` of `golden`.
    pub(super) fn of(golden: &Golden) -> Self {
        serde_json::from_slice(&fs::read(folder(golden).join("generation.json")).unwrap()).unwrap()
    }
}

fn folder(golden: &Golden) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(&golden.name)
}

/// Loads a model from a copy of the golden's folder in which `change` rewrote `file`.
pub(super) fn model_with_changed_file(
    golden: &Golden,
    file: &str,
    change: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Model {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder(golden)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let path = copy.path().join(file);
    fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
    let checkpoint = Checkpoint::open(&ModelFiles::Folder(copy.path().to_owned())).unwrap();
    Golden { name: golden.name.clone(), checkpoint, kernels: golden.kernels, cases: Vec::new() }
        .model(Dtype::F32)
}

/// Loads the vision encoder and the decoder of a golden as a captioning model. Both architectures
/// have the same tensor names.
pub(super) fn captioning_model(golden: &Golden) -> Model {
    model_with_changed_file(golden, "config.json", |json| {
        let mut config: serde_json::Value = serde_json::from_slice(&json).unwrap();
        config["architectures"] = serde_json::json!(["BlipForConditionalGeneration"]);
        serde_json::to_vec(&config).unwrap()
    })
}

/// A row of a test, with the case whose image it reads.
#[derive(Clone)]
pub(super) struct TestRow<'a> {
    pub(super) case: &'a Case,
    pub(super) token_ids: Vec<i64>,
    pub(super) task: RowTask,
}

impl<'a> TestRow<'a> {
    /// Returns a row with the question of `case`.
    pub(super) fn question(case: &'a Case, task: RowTask) -> Self {
        Self { case, token_ids: case.input_ids.clone(), task }
    }
}

impl ExpectedSearch {
    pub(super) fn row<'a>(&self, golden: &'a Golden) -> TestRow<'a> {
        let Options {
            num_beams,
            max_new_tokens,
            min_length,
            length_penalty,
            repetition_penalty,
            num_sequences,
        } = self.options;
        let max_new_tokens = Some(max_new_tokens);
        let task = RowTask::Generate(Generation {
            num_beams,
            max_new_tokens,
            min_length,
            length_penalty,
            repetition_penalty,
            num_sequences,
            ..Generation::GREEDY
        });
        let row = TestRow::question(&golden.cases[self.case], task);
        TestRow { token_ids: self.prompt.clone().unwrap_or(row.token_ids), ..row }
    }
}

impl ExpectedRanking {
    pub(super) fn row<'a>(&self, golden: &'a Golden) -> TestRow<'a> {
        let task = RowTask::Rank(Ranking {
            candidates: self.candidates.clone().into(),
            shortlist: self.shortlist,
            num_answers: u32::MAX,
            explain: false,
        });
        TestRow::question(&golden.cases[self.case], task)
    }
}

/// Returns generation options for `num_sequences` samples.
pub(super) fn sampled(sampling: Sampling, num_sequences: u32) -> Generation {
    Generation { sampling: Some(sampling), num_sequences, ..Generation::GREEDY }
}

pub(super) const PLAIN_SAMPLING: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1 };

/// Runs `rows` in one batch. Rows with equal pixels share an image.
pub(super) fn run_rows(model: &mut Model, rows: &[TestRow<'_>], cancelled: Vec<usize>) -> RowCollector {
    let mut images: Vec<ImageInput<'_>> = Vec::new();
    let inputs: Vec<RowInput<'_>> = rows
        .iter()
        .map(|row| {
            let pixels = &row.case.pixels;
            let same = images.iter().position(|image| image.pixels.data() == pixels.data());
            let image = same.unwrap_or_else(|| {
                images.push(ImageInput { digest: test_digest(pixels), pixels });
                images.len() - 1
            });
            RowInput { image: Some(image), token_ids: &row.token_ids, task: &row.task }
        })
        .collect();
    let mut collected = RowCollector { cancelled, ..RowCollector::for_rows(inputs.len()) };
    model.run(&images, &inputs, &mut collected).unwrap();
    collected
}

/// Runs one row in a batch of one.
pub(super) fn run_single(model: &mut Model, row: &TestRow<'_>) -> RowOutput {
    let mut collected = run_rows(model, std::slice::from_ref(row), Vec::new());
    collected.outcomes.remove(0).unwrap().unwrap().output
}

/// Returns the sequences of a generated output.
pub(super) fn sequences(output: &RowOutput) -> &[Sequence] {
    match output {
        RowOutput::Generated(sequences) => sequences,
        other => panic!("output {other:?}, expected sequences"),
    }
}
