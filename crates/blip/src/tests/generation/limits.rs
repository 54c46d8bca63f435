//! Rows with NaN in their computation, and generation options at and beyond their limits.

use safetensors::SafeTensors;

use crate::{
    Dtype, Generation, ImageInput, RowError, RowInput, RowTask, Sampling,
    tests::{
        generation::{
            batch_invariance::{assert_same, rows_of_every_strategy},
            goldens::{
                PLAIN_SAMPLING, TestRow, model_with_changed_file, run_rows, run_single, sampled, sequences,
            },
        },
        golden_files::{RowCollector, golden, test_digest},
    },
};

/// Returns `weights` with NaN as the text encoder's word embedding of `token`.
fn with_nan_embedding(weights: &[u8], token: i64) -> Vec<u8> {
    const WORDS: &str = "text_encoder.embeddings.word_embeddings.weight";
    let tensors = SafeTensors::deserialize(weights).unwrap();
    let words = tensors.tensor(WORDS).unwrap();
    let width = words.shape()[1] * 4;
    let mut data = words.data().to_vec();
    for number in data[token as usize * width..][..width].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let changed = safetensors::tensor::TensorView::new(words.dtype(), words.shape().to_vec(), &data).unwrap();
    let views = tensors.tensors().into_iter().map(|(name, view)| {
        let view = if name == WORDS { changed.clone() } else { view };
        (name, view)
    });
    safetensors::tensor::serialize(views, None).unwrap()
}

#[test]
fn nan_embedding_fails_only_the_rows_that_contain_it() {
    let golden = golden("thirty_by_six");
    let nan_token = golden.cases[2].input_ids[1];
    let mut model =
        model_with_changed_file(&golden, "model.safetensors", |bytes| with_nan_embedding(&bytes, nan_token));
    let rows = rows_of_every_strategy(&golden);
    let has_nan = |row: &TestRow<'_>| row.token_ids.contains(&nan_token);
    assert!(rows.iter().any(has_nan) && !rows.iter().all(has_nan));
    let batched = run_rows(&mut model, &rows, Vec::new());
    let mut unchanged = golden.model(Dtype::F32);
    for (outcome, row) in batched.outcomes.iter().zip(&rows) {
        match outcome.as_ref().unwrap() {
            Ok(answer) => {
                assert!(!has_nan(row));
                assert_same(&answer.output, &run_single(&mut unchanged, row)).unwrap();
            }
            Err(error) => assert!(has_nan(row) && *error == RowError::NotFinite),
        }
    }
}

#[test]
fn invalid_options_are_rejected_and_extreme_ones_work() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let case = &golden.cases[0];
    let image = ImageInput { digest: test_digest(&case.pixels), pixels: &case.pixels };
    let invalid = RowTask::Generate(sampled(Sampling { temperature: 0.0, ..PLAIN_SAMPLING }, 1));
    let row = RowInput { image: Some(0), token_ids: &case.input_ids, task: &invalid };
    let error = model.run(&[image], &[row], &mut RowCollector::default()).unwrap_err().to_string();
    assert_eq!(error, "temperature is 0, expected 0.000001 to 1000000");
    for options in [
        Generation { num_beams: 512, max_new_tokens: Some(3), num_sequences: 512, ..Generation::GREEDY },
        Generation { num_beams: 2, max_new_tokens: Some(0), min_length: u32::MAX, ..Generation::GREEDY },
        Generation {
            num_beams: 2,
            max_new_tokens: Some(u32::MAX),
            length_penalty: -100.0,
            ..Generation::GREEDY
        },
        Generation {
            min_length: u32::MAX,
            repetition_penalty: 1e6,
            max_new_tokens: Some(u32::MAX),
            ..Generation::GREEDY
        },
        sampled(Sampling { temperature: 1e-6, top_p: 0.0, ..PLAIN_SAMPLING }, 2),
        sampled(Sampling { temperature: 1e6, top_k: u32::MAX, ..PLAIN_SAMPLING }, 0),
    ] {
        let output = run_single(&mut model, &TestRow::question(case, RowTask::Generate(options)));
        assert!(!sequences(&output).is_empty(), "{options:?}");
        assert!(sequences(&output).iter().all(|sequence| !sequence.token_ids.is_empty()), "{options:?}");
    }
}
