//! Compares the conventions of the original repository with `transformers` 5.17. The reference gets
//! the token ids and the epsilon of the original.
//!
//! `tests/reference/generate/goldens_conventions.py` writes the goldens.

use std::{fs, path::PathBuf};

use serde::Deserialize;
use tch::Device;

use crate::{
    Checkpoint, CheckpointOptions, Conventions, Dtype, ModelFiles, RowInput, RowTask,
    model::Model,
    options::LoadOptions,
    tests::golden_files::{Folder, RowCollector, image_inputs},
};

#[derive(Deserialize)]
struct Text {
    text: String,
    question_ids: Vec<i64>,
    matching_ids: Vec<i64>,
}

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    question: String,
    written_ids: Vec<i64>,
}

const SALESFORCE: CheckpointOptions =
    CheckpointOptions { conventions: Conventions::Salesforce, image_size: None };

fn open(name: &str) -> Checkpoint {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    Checkpoint::open_with(&ModelFiles::Folder(folder), SALESFORCE).unwrap()
}

#[test]
fn token_ids_follow_the_original_text_processing() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/original_conventions/texts.json");
    let texts: Vec<Text> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    // Both checkpoints have the same vocabulary.
    let answers = open("original_conventions/quiet");
    let matches = open("retrieval/wide_vision");
    for Text { text, question_ids, matching_ids } in texts {
        assert_eq!(answers.tokenizer().encode(&text).unwrap(), question_ids, "question {text:?}");
        assert_eq!(matches.tokenizer().encode(&text).unwrap(), matching_ids, "text {text:?}");
    }
}

#[test]
fn features_and_answers_follow_the_original_epsilon() {
    let folder = Folder::open("original_conventions/quiet");
    let checkpoint = folder.checkpoint(SALESFORCE);
    let mut model =
        Model::load(&checkpoint, Device::Cpu, Dtype::F32, LoadOptions::for_device(Device::Cpu)).unwrap();
    let image = folder.pixels("pixels");
    let features = model.features(&[&image]).squeeze_dim(0);
    let expected = folder.tensor("image_embeds");
    let scale = expected.abs().max().double_value(&[]);
    let error = (features - expected).abs().max().double_value(&[]) / scale;
    assert!(error < 1e-3, "relative error {error:e}, above 1e-2 means an epsilon of 1e-5");

    for case in folder.expected::<Expected>().cases {
        let token_ids = checkpoint.tokenizer().encode(&case.question).unwrap();
        let row = RowInput { image: Some(0), token_ids: &token_ids, task: &RowTask::GREEDY };
        let mut rows = RowCollector::for_rows(1);
        model.run(&image_inputs(std::slice::from_ref(&image)), &[row], &mut rows).unwrap();
        assert_eq!(rows.sequence(0).token_ids, case.written_ids, "{:?}", case.question);
    }
}

#[test]
fn generation_defaults_follow_the_original() {
    let answers = open("original_conventions/quiet").default_generation();
    assert_eq!((answers.num_beams, answers.max_new_tokens, answers.min_length), (3, Some(9), 1));
    let captions = open("captions/wide_vision");
    let prompt = captions.tokenizer().encode_prompt("").unwrap();
    let generation = captions.default_generation();
    assert_eq!(prompt.len() + generation.max_new_tokens.unwrap() as usize, 20, "length with the prompt");
    let hf = Folder::open("captions/wide_vision").checkpoint(CheckpointOptions::default());
    assert!(hf.default_generation().is_greedy());
}
