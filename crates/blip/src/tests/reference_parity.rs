//! Compares question answering with `transformers` 5.17, for single questions without padding.
//!
//! `tests/reference/generate/goldens.py` writes the goldens.

use cpu_kernels::NumberFormat;
use tch::Tensor;

use crate::{
    Checkpoint, CpuKernels, Dtype, LoadOptions, PartDtype,
    batch::layout::BatchLayout,
    checkpoint::weights::tests::formats::in_every_pickle,
    tests::golden_files::{Case, Golden, golden, goldens, run_cases},
    text::image_states::ImageStates,
};

/// Returns the largest difference, relative to the largest expected number.
fn relative_error(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let scale = expected.abs().max().double_value(&[]);
    (found - expected).abs().max().double_value(&[]) / scale
}

fn assert_close(stage: &str, golden: &Golden, case: &Case, found: &Tensor, expected: &Tensor) {
    let error = relative_error(found, expected);
    assert!(error < 1e-4, "{stage} of {} for {:?}: relative error {error:e}", golden.name, case.question);
}

#[test]
fn every_stage_equals_the_reference() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        for case in &golden.cases {
            let features = model.features(&[&case.pixels]);
            assert_close("vision output", &golden, case, &features.squeeze_dim(0), &case.image_embeds);

            let layout = BatchLayout::new(&[0], [0]);
            let batch = model.answering().questions.prepare(&[&case.input_ids]).unwrap();
            let states = model
                .answering()
                .questions
                .forward(&batch, ImageStates::of_features(&features), &layout)
                .unwrap();
            assert_close("question states", &golden, case, &states.squeeze_dim(0), &case.question_states);

            let mut state = model.answering().decoder.start(&states, None).unwrap();
            for (step, token) in case.generated_ids[..case.generated_ids.len() - 1].iter().enumerate() {
                let logits = model.answering().decoder.step(&[*token], &mut state).unwrap();
                let expected = case.step_logits.get(step as i64);
                assert_close(
                    &format!("logits of step {step}"),
                    &golden,
                    case,
                    &logits.squeeze_dim(0),
                    &expected,
                );
            }
        }
    }
}

#[test]
fn every_answer_equals_the_reference() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        let tokenizer = golden.checkpoint.tokenizer();
        for case in &golden.cases {
            assert_eq!(tokenizer.encode(&case.question).unwrap(), case.input_ids, "{}", golden.name);
            let rows = run_cases(&mut model, &[case], Vec::new());
            let answer = rows.sequence(0);
            assert_eq!(answer.token_ids, case.generated_ids[1..], "{} {:?}", golden.name, case.question);
            let error = (answer.score - case.score).abs();
            assert!(
                error < 1e-3 * case.score.abs().max(1.0),
                "score {}, expected {}",
                answer.score,
                case.score
            );
            assert_eq!(tokenizer.decode(&answer.token_ids), case.answer, "{}", golden.name);
        }
    }
}

#[test]
fn every_file_format_gives_the_same_answers() {
    for (_folder, files) in in_every_pickle() {
        let checkpoint = Checkpoint::open(&files).unwrap();
        let golden = Golden { checkpoint, ..golden("vocab_txt") };
        let mut model = golden.model(Dtype::F32);
        for case in &golden.cases {
            let rows = run_cases(&mut model, &[case], Vec::new());
            let answer = rows.sequence(0);
            assert_eq!(answer.token_ids, case.generated_ids[1..], "{:?} of {files:?}", case.question);
        }
    }
}

#[test]
fn half_precision_on_cpu_stays_near_the_reference() {
    for golden in goldens() {
        for (dtype, limit) in [(Dtype::F16, 0.02), (Dtype::Bf16, 0.1)] {
            let mut model = golden.model(dtype);
            for case in &golden.cases {
                let rows = run_cases(&mut model, &[case], Vec::new());
                let answer = rows.sequence(0);
                assert!(!answer.token_ids.is_empty());
                let features = model.features(&[&case.pixels]).squeeze_dim(0).to_kind(tch::Kind::Float);
                let error = relative_error(&features, &case.image_embeds);
                assert!(error < limit, "{} in {dtype}: {error}", golden.name);
            }
        }
    }
}

#[test]
fn int8_vision_stays_near_the_reference() {
    // Without products in bf16, attention is in f32. The largest error is then 0.0503.
    let limit = if NumberFormat::Bf16.has_products() { 0.05 } else { 0.06 };
    for golden in goldens().into_iter().filter(|golden| golden.kernels != CpuKernels::LibTorch) {
        let mut model = golden.model_in(Dtype::F32, PartDtype::Int8);
        for case in &golden.cases {
            let features = model.features(&[&case.pixels]).squeeze_dim(0);
            let error = relative_error(&features, &case.image_embeds);
            assert!(error > 0.0, "{}: features equal those of f32", golden.name);
            assert!(error < limit, "{}: {error}", golden.name);
        }
    }
}

#[test]
fn bf16_texts_stay_near_the_reference() {
    // Without products in bf16, only weights are rounded.
    let limit = if NumberFormat::Bf16.has_products() { 0.1 } else { 0.05 };
    for golden in goldens().into_iter().filter(|golden| golden.kernels != CpuKernels::LibTorch) {
        let options = LoadOptions { text_dtype: PartDtype::Bf16, ..golden.options() };
        let mut model = golden.model_with(Dtype::F32, options);
        let mut equal = 0;
        for case in &golden.cases {
            let rows = run_cases(&mut model, &[case], Vec::new());
            let answer = rows.sequence(0);
            // Random weights have thin margins, so tokens can differ. Equal ones have near scores.
            if answer.token_ids == case.generated_ids[1..] {
                equal += 1;
                let error = (answer.score - case.score).abs();
                assert!(error > 0.0, "{}: the score equals that of f32", golden.name);
                assert!(error < limit * case.score.abs().max(1.0), "{}: {error}", golden.name);
            }
            let features = model.features(&[&case.pixels]).squeeze_dim(0);
            assert!(relative_error(&features, &case.image_embeds) < 1e-4, "{}", golden.name);
        }
        let cases = golden.cases.len();
        assert!(2 * equal > cases, "{}: {equal} of {cases} answers are equal", golden.name);
    }
}
