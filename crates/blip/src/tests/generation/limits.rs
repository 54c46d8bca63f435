//! Rows that would do harm: poisoned numbers, and options that cannot be meant.

use safetensors::SafeTensors;

use crate::{
    Dtype, Generation, ImageInput, RowError, RowInput, RowTask, Sampling,
    tests::{
        generation::{
            batch_invariance::{asks, assert_same},
            goldens::{Ask, PLAIN_SAMPLING, ask_alone, ask_together, changed, drawn, sequences},
        },
        golden_files::{Collected, golden, key},
    },
};

/// The golden's weights with one row of the question encoder's word embeddings no numbers any more.
fn poison(weights: &[u8], token: i64) -> Vec<u8> {
    const WORDS: &str = "text_encoder.embeddings.word_embeddings.weight";
    let tensors = SafeTensors::deserialize(weights).unwrap();
    let words = tensors.tensor(WORDS).unwrap();
    let width = words.shape()[1] * 4;
    let mut data = words.data().to_vec();
    for number in data[token as usize * width..][..width].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let poisoned =
        safetensors::tensor::TensorView::new(words.dtype(), words.shape().to_vec(), &data).unwrap();
    let views = tensors.tensors().into_iter().map(|(name, view)| {
        let view = if name == WORDS { poisoned.clone() } else { view };
        (name, view)
    });
    safetensors::tensor::serialize(views, None).unwrap()
}

#[test]
fn a_row_whose_numbers_are_none_fails_alone() {
    let golden = golden("thirty_by_six");
    let poisonous = golden.cases[2].input_ids[1];
    let mut model = changed(&golden, "model.safetensors", |bytes| poison(&bytes, poisonous));
    let asks = asks(&golden);
    let is_poisoned = |ask: &Ask<'_>| ask.token_ids.contains(&poisonous);
    assert!(asks.iter().any(is_poisoned) && !asks.iter().all(is_poisoned));
    let together = ask_together(&mut model, &asks, Vec::new());
    let mut healthy = golden.model(Dtype::F32);
    for (outcome, ask) in together.outcomes.iter().zip(&asks) {
        match outcome.as_ref().unwrap() {
            Ok(answer) => {
                assert!(!is_poisoned(ask));
                assert_same(&answer.output, &ask_alone(&mut healthy, ask)).unwrap();
            }
            Err(error) => assert!(is_poisoned(ask) && *error == RowError::NotFinite),
        }
    }
}

#[test]
fn options_that_cannot_be_meant_are_refused_and_odd_ones_are_survived() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let case = &golden.cases[0];
    let image = ImageInput { digest: key(&case.pixels), pixels: &case.pixels };
    let refused = RowTask::Generate(drawn(Sampling { temperature: 0.0, ..PLAIN_SAMPLING }, 1));
    let row = RowInput { image: Some(0), token_ids: &case.input_ids, task: &refused };
    let error = model.run(&[image], &[row], &mut Collected::default()).unwrap_err().to_string();
    assert_eq!(error, "temperature is 0, expected 0.000001 to 1000000");
    for odd in [
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
        drawn(Sampling { temperature: 1e-6, top_p: 0.0, ..PLAIN_SAMPLING }, 2),
        drawn(Sampling { temperature: 1e6, top_k: u32::MAX, ..PLAIN_SAMPLING }, 0),
    ] {
        let output = ask_alone(&mut model, &Ask::question(case, RowTask::Generate(odd)));
        assert!(!sequences(&output).is_empty(), "{odd:?}");
        assert!(sequences(&output).iter().all(|sequence| !sequence.token_ids.is_empty()), "{odd:?}");
    }
}
