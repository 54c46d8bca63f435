//! What `tools/goldens_generation.py` recorded beside the reference checkpoints, as tests read it.

use std::{fs, path::PathBuf};

use serde::Deserialize;

use crate::{
    Checkpoint, Dtype, Generation, ImageInput, ModelFiles, Ranking, RowInput, RowOutput, RowTask, Sampling,
    Sequence,
    model::Model,
    tests::golden_files::{Case, Collected, Golden, key},
};

#[derive(Deserialize)]
pub(super) struct GenerationGoldens {
    pub(super) answers: Vec<Searched>,
    pub(super) captions: Vec<Searched>,
    pub(super) rankings: Vec<Ranked>,
}

#[derive(Deserialize)]
pub(super) struct Searched {
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

#[derive(Deserialize)]
pub(super) struct Ranked {
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
    pub(super) fn of(golden: &Golden) -> Self {
        serde_json::from_slice(&fs::read(folder(golden).join("generation.json")).unwrap()).unwrap()
    }
}

fn folder(golden: &Golden) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(&golden.name)
}

/// The golden's model out of a copy of its folder, after `change` has been at one of the files.
pub(super) fn changed(golden: &Golden, file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Model {
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

/// The golden's vision tower and decoder as a captioner, which has the same tensors by the same names.
pub(super) fn captioner(golden: &Golden) -> Model {
    changed(golden, "config.json", |json| {
        let mut config: serde_json::Value = serde_json::from_slice(&json).unwrap();
        config["architectures"] = serde_json::json!(["BlipForConditionalGeneration"]);
        serde_json::to_vec(&config).unwrap()
    })
}

/// A row that a test asks for.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) case: &'a Case,
    pub(super) token_ids: Vec<i64>,
    pub(super) task: RowTask,
}

impl<'a> Ask<'a> {
    /// The question of a case.
    pub(super) fn question(case: &'a Case, task: RowTask) -> Self {
        Self { case, token_ids: case.input_ids.clone(), task }
    }
}

impl Searched {
    pub(super) fn ask<'a>(&self, golden: &'a Golden) -> Ask<'a> {
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
        let ask = Ask::question(&golden.cases[self.case], task);
        Ask { token_ids: self.prompt.clone().unwrap_or(ask.token_ids), ..ask }
    }
}

impl Ranked {
    pub(super) fn ask<'a>(&self, golden: &'a Golden) -> Ask<'a> {
        let task = RowTask::Rank(Ranking {
            candidates: self.candidates.clone().into(),
            shortlist: self.shortlist,
            num_answers: u32::MAX,
        });
        Ask::question(&golden.cases[self.case], task)
    }
}

/// A row that draws.
pub(super) fn drawn(sampling: Sampling, num_sequences: u32) -> Generation {
    Generation { sampling: Some(sampling), num_sequences, ..Generation::GREEDY }
}

pub(super) const PLAIN_SAMPLING: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1 };

/// Runs one batch; rows on equal pixels share an image.
pub(super) fn ask_together(model: &mut Model, asks: &[Ask<'_>], cancelled: Vec<usize>) -> Collected {
    let mut images: Vec<ImageInput<'_>> = Vec::new();
    let rows: Vec<RowInput<'_>> = asks
        .iter()
        .map(|ask| {
            let pixels = &ask.case.pixels;
            let same = images.iter().position(|image| image.pixels.data() == pixels.data());
            let image = same.unwrap_or_else(|| {
                images.push(ImageInput { digest: key(pixels), pixels });
                images.len() - 1
            });
            RowInput { image: Some(image), token_ids: &ask.token_ids, task: &ask.task }
        })
        .collect();
    let mut collected = Collected { outcomes: vec![None; rows.len()], cancelled, ..Collected::default() };
    model.run(&images, &rows, &mut collected).unwrap();
    collected
}

/// Runs one row alone.
pub(super) fn ask_alone(model: &mut Model, ask: &Ask<'_>) -> RowOutput {
    let mut collected = ask_together(model, std::slice::from_ref(ask), Vec::new());
    collected.outcomes.remove(0).unwrap().unwrap().output
}

/// What a row wrote.
pub(super) fn sequences(output: &RowOutput) -> &[Sequence] {
    match output {
        RowOutput::Generated(sequences) => sequences,
        other => panic!("nothing was written: {other:?}"),
    }
}
