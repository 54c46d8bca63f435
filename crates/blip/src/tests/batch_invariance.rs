//! Answers of question answering do not depend on the batch composition or on the caches.

use cpu_kernels::NumberFormat;
use proptest::prelude::*;

use tch::{Device, Kind, Tensor};

use crate::{
    CpuKernels, Dtype, PartDtype, RowAnswer, RowInput, RowTask, SharedImageCache,
    batch::layout::BatchLayout,
    cache::key_value_shape::KeyValueShape,
    cuda_graphs::{decode_buffers::DecodeBuffers, recent_steps::RecentSteps},
    decoder::token_choice::read_choices,
    options::LoadOptions,
    tests::golden_files::{Case, Golden, golden, goldens, run_cases},
    text::image_states::ImageStates,
};

fn run_single(model: &mut crate::model::Model, case: &Case) -> RowAnswer {
    run_cases(model, &[case], Vec::new()).outcomes.remove(0).unwrap().unwrap()
}

fn assert_same(batched: &RowAnswer, alone: &RowAnswer) -> Result<(), TestCaseError> {
    let (batched, alone) = (batched.output.best().unwrap(), alone.output.best().unwrap());
    prop_assert_eq!(&batched.token_ids, &alone.token_ids);
    prop_assert!((batched.score - alone.score).abs() < 1e-3, "{} {}", batched.score, alone.score);
    Ok(())
}

#[test]
fn answers_in_random_batches_equal_those_of_single_rows() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        let alone: Vec<RowAnswer> = golden.cases.iter().map(|case| run_single(&mut model, case)).collect();
        let model = std::cell::RefCell::new(model);
        let picks = prop::collection::vec(0..golden.cases.len(), 1..=64);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(24));
        let outcome = runner.run(&picks, |picks| {
            let cases: Vec<&Case> = picks.iter().map(|&pick| &golden.cases[pick]).collect();
            let rows = run_cases(&mut model.borrow_mut(), &cases, Vec::new());
            for (outcome, &pick) in rows.outcomes.iter().zip(&picks) {
                assert_same(outcome.as_ref().unwrap().as_ref().unwrap(), &alone[pick])?;
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{}: {outcome:?}", golden.name);
    }
}

#[test]
fn cached_keys_and_values_do_not_change_answers() {
    for golden in goldens() {
        let alone: Vec<RowAnswer> = {
            let mut model = golden.model_with(Dtype::F32, without_key_values(&golden));
            golden.cases.iter().map(|case| run_single(&mut model, case)).collect()
        };
        let all: Vec<&Case> = golden.cases.iter().collect();
        let mut model = golden.model(Dtype::F32);
        let shape = match golden.kernels {
            CpuKernels::LibTorch => {
                model.answering().questions.key_values(model.config.vision.tokens()).unwrap().0
            }
            CpuKernels::Auto | CpuKernels::Native => {
                KeyValueShape::for_config(&model.config, NumberFormat::F32)
            }
        };
        for images in [1, 2, 64] {
            let cross_attention_cache_bytes = images * shape.bytes(Kind::Float);
            model = golden
                .model_with(Dtype::F32, LoadOptions { cross_attention_cache_bytes, ..golden.options() });
            let mut cached = 0;
            // Batches of one row and of several rows alternate. Images are new, cached or evicted.
            for turn in 0..4 * all.len() {
                let picked = &all[..if turn % 3 == 2 { all.len() } else { 1 + turn % all.len() }];
                let cases = if turn % 2 == 0 { picked } else { &picked[picked.len() - 1..] };
                let rows = run_cases(&mut model, cases, Vec::new());
                cached += rows.cached;
                for (outcome, case) in rows.outcomes.iter().zip(cases) {
                    let pick = all.iter().position(|other| std::ptr::eq(*other, *case)).unwrap();
                    assert_same(outcome.as_ref().unwrap().as_ref().unwrap(), &alone[pick]).unwrap();
                }
            }
            assert!(cached > 0, "{}: no cached image, capacity {images}", golden.name);
        }
    }
}

#[test]
fn models_with_a_shared_cache_encode_each_image_once() {
    for golden in goldens() {
        let options = golden.options();
        let Some(images) =
            SharedImageCache::for_models(&golden.checkpoint, Device::Cpu, Dtype::F32, &options)
        else {
            assert_eq!(golden.kernels, CpuKernels::LibTorch);
            continue;
        };
        let alone: Vec<RowAnswer> = {
            let mut model = golden.model(Dtype::F32);
            golden.cases.iter().map(|case| run_single(&mut model, case)).collect()
        };
        let mut models: Vec<crate::model::Model> = [(), (), ()]
            .map(|()| {
                let images = Some(images.clone());
                crate::model::Model::load_sharing(
                    &golden.checkpoint,
                    Device::Cpu,
                    Dtype::F32,
                    options,
                    images,
                )
                .unwrap()
            })
            .into();
        let all: Vec<&Case> = golden.cases.iter().collect();
        // The first model encodes the images. The second caches their keys and values. The third
        // reads the cached keys and values.
        for (turn, model) in models.iter_mut().enumerate() {
            let rows = run_cases(model, &all, Vec::new());
            for (outcome, alone) in rows.outcomes.iter().zip(&alone) {
                let answer = outcome.as_ref().unwrap().as_ref().unwrap();
                assert_same(answer, alone).unwrap();
                assert_eq!(answer.image_reused, turn > 0, "{}", golden.name);
            }
            assert_eq!(rows.cached > 0, turn == 2, "{}", golden.name);
        }
    }
}

fn without_key_values(golden: &Golden) -> LoadOptions {
    LoadOptions { cross_attention_cache_bytes: 0, ..golden.options() }
}

#[test]
fn int8_features_in_a_batch_equal_those_of_a_single_image() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model_in(Dtype::F32, PartDtype::Int8);
    let all: Vec<_> = golden.cases.iter().map(|case| &case.pixels).collect();
    let batched = model.features(&all);
    for (image, pixels) in (0..).zip(all) {
        let alone = model.features(&[pixels]);
        assert!(alone.equal(&batched.narrow(0, image, 1)), "image {image}");
    }
}

/// Each row of a product is summed in the same order in any batch.
#[test]
fn rounded_models_answer_a_batch_as_single_questions_to_the_bit() {
    for golden in goldens().into_iter().filter(|golden| golden.kernels == CpuKernels::Native) {
        for dtype in [Dtype::Bf16, Dtype::Int8] {
            let mut model = golden.model(dtype);
            let cases: Vec<&Case> = golden.cases.iter().collect();
            let rows = run_cases(&mut model, &cases, Vec::new());
            for (case, row) in cases.into_iter().zip(0..) {
                let (alone, together) = (run_single(&mut model, case), rows.sequence(row));
                let alone = alone.output.best().unwrap();
                let results = [alone, &together].map(|answer| (&answer.token_ids, answer.score.to_bits()));
                assert_eq!(results[0], results[1], "{} in {dtype}", golden.name);
            }
        }
    }
}

#[test]
fn cancelled_row_is_not_reported_and_changes_no_other_row() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let cases: Vec<&Case> = golden.cases.iter().collect();
    let alone: Vec<RowAnswer> = golden.cases.iter().map(|case| run_single(&mut model, case)).collect();
    for cancelled in 0..cases.len() {
        let rows = run_cases(&mut model, &cases, vec![cancelled]);
        for (row, outcome) in rows.outcomes.iter().enumerate() {
            match outcome {
                None => assert_eq!(row, cancelled),
                Some(outcome) => assert_same(outcome.as_ref().unwrap(), &alone[row]).unwrap(),
            }
        }
    }
}

#[test]
fn rows_are_reported_in_the_order_in_which_they_end() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let cases: Vec<&Case> = golden.cases.iter().collect();
    let rows = run_cases(&mut model, &cases, Vec::new());
    let lengths: Vec<usize> = rows.order.iter().map(|&row| cases[row].generated_ids.len()).collect();
    assert!(lengths.is_sorted(), "{lengths:?}");
    assert!(lengths.first() < lengths.last(), "all goldens end at the same step: {lengths:?}");
    let longest = rows
        .outcomes
        .iter()
        .flatten()
        .flatten()
        .map(|answer| answer.output.best().unwrap().token_ids.len())
        .max();
    assert_eq!(Some(rows.steps as usize), longest);
}

/// Runs the decoder of CUDA graphs without a graph. Its buffers are larger than the batch, and each
/// batch after the first finds the state of another batch in them. Some tokens are those that the
/// last step chose, others are given, also after a step that ran ahead.
#[test]
fn decode_buffers_choose_the_tokens_of_a_growing_cache() {
    // LibTorch projects each layer in f32, and all layers together in f16.
    for (dtype, tolerance) in [(Dtype::F32, 1e-4), (Dtype::F16, 2e-2)] {
        check_decode_buffers(dtype, tolerance);
    }
}

fn check_decode_buffers(dtype: Dtype, tolerance: f32) {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(dtype);
    let steps = model.stopping.max_new_tokens;
    let shape = [8, 40, steps];
    let mut buffers = DecodeBuffers::new(shape, &model.config.text, model.device, dtype.kind()).unwrap();
    // The batch, the steps of its answers, the steps that run before the first tokens are read, and
    // the steps after which a token is replaced.
    let batches = [
        (&golden.cases[..], steps, 2, [1, 4]),
        (&golden.cases[..2], steps, 2, [0, 3]),
        (&golden.cases[1..2], steps, 2, [1, 2]),
        (&golden.cases[..1], 1, 1, [0, 1]),
        (&golden.cases[..2], steps, 4, [3, 4]),
        (&golden.cases[..], steps, 4, [1, 4]),
        (&golden.cases[..2], 3, 3, [2, 3]),
    ];
    for (cases, steps, first_steps, replaced_after) in batches {
        let images = model.features(&cases.iter().map(|case| &case.pixels).collect::<Vec<_>>());
        let indices: Vec<usize> = (0..cases.len()).collect();
        let questions: Vec<&[i64]> = cases.iter().map(|case| &case.input_ids[..]).collect();
        let lengths: Vec<i64> = questions.iter().map(|ids| ids.len() as i64).collect();
        let batch = model.answering().questions.prepare(&questions).unwrap();
        let states = model
            .answering()
            .questions
            .forward(&batch, ImageStates::of_features(&images), &BatchLayout::new(&indices, indices.clone()))
            .unwrap();

        let mut cache = model.answering().decoder.start(&states, batch.padding).unwrap();
        if first_steps > 2 {
            // The buffers record as many batches of four steps as longer starts need.
            for _ in 0..RecentSteps::BATCHES {
                buffers.load(&states, &lengths, 4).unwrap();
                buffers.choose(&[0], 3, |_| Ok(())).unwrap();
            }
        }
        buffers.load(&states, &lengths, steps).unwrap();
        buffers.start(&model.answering().decoder).unwrap();
        let mut tokens = vec![model.stopping.start_token; cases.len()];
        for step in 0..steps {
            let decoder = &model.answering().decoder;
            let mut runs = 0;
            let run = |buffers: &mut DecodeBuffers| {
                runs += 1;
                buffers.step(decoder)
            };
            let found = buffers.choose(&tokens, step, run).unwrap();
            let expected_runs = match step {
                0 => first_steps,
                _ if step < first_steps && replaced_after.iter().all(|&replaced| replaced >= step) => 0,
                _ => 1,
            };
            assert_eq!(runs, expected_runs, "step {step} of {steps}");
            let expected = read_choices(&decoder.choose(&tokens, &mut cache).unwrap()).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.token, expected.token, "step {step}");
                let difference = (found.log_probability - expected.log_probability).abs();
                assert!(difference < tolerance, "step {step} in {dtype}: {difference}");
            }
            tokens = expected.iter().map(|choice| choice.token).collect();
            if replaced_after.contains(&step) {
                tokens[0] = (tokens[0] + 1) % model.config.text.vocab_size;
            }
        }
    }
}

#[test]
fn cached_start_token_does_not_change_logits() {
    for golden in goldens() {
        let model = golden.model(Dtype::F32);
        let decoder = &model.answering().decoder;
        let start = model.stopping.start_token;
        let states = Tensor::randn([2, 5, model.config.text.hidden_size], (Kind::Float, model.device));
        // The first step fills the cache. Later first steps with the same token read it.
        for tokens in [[start, start], [start, start], [start, start + 1], [start + 1, start + 1]] {
            let [mut cached, mut uncached] = [(), ()].map(|()| decoder.start(&states, None).unwrap());
            for tokens in [tokens, [start + 1, start]] {
                let ids = Tensor::from_slice(&tokens).view([2, 1]);
                let expected = decoder.step_on_device(&ids, &mut uncached).unwrap();
                let difference = (decoder.step(&tokens, &mut cached).unwrap() - expected).abs().max();
                assert!(difference.double_value(&[]) < 1e-4, "{}: {tokens:?}", golden.name);
            }
        }
    }
}

#[test]
fn repeated_image_is_reused_and_gets_the_same_answer() {
    let golden = golden("fifty_by_ten");
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
        let mut model = golden.model(dtype);
        let first = run_single(&mut model, &golden.cases[0]);
        let second = run_single(&mut model, &golden.cases[0]);
        assert!(!first.image_reused && second.image_reused);
        assert_eq!(second.vision, std::time::Duration::ZERO);
        assert_same(&second, &first).unwrap();
        let number_bytes = if dtype == Dtype::Bf16 { 2 } else { 4 };
        let numbers = model.config.vision.tokens() * model.config.vision.hidden_size;
        assert_eq!(model.image_bytes(), numbers as usize * number_bytes, "{dtype}");
    }
}

#[test]
fn batch_beyond_a_limit_is_rejected_with_the_limit() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let input = crate::ImageInput { digest: [0; 32], pixels: &golden.cases[0].pixels };
    let mut rows = crate::tests::golden_files::RowCollector::default();
    let cases: [(usize, &[i64], &str); 5] = [
        (1, &[2, 3], "image 1, batch has 1"),
        (0, &[], "0 tokens, expected 1 to 64"),
        (0, &[0; 65], "65 tokens, expected 1 to 64"),
        (0, &[118], "token id 118, vocabulary has 118"),
        (0, &[-1], "token id -1"),
    ];
    for (image, token_ids, message) in cases {
        let row = RowInput { image: Some(image), token_ids, task: &RowTask::GREEDY };
        let error = model.run(&[input], &[row], &mut rows).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
