//! Company never changes an answer: a batch is only a faster way to ask each question alone.

use proptest::prelude::*;

use tch::{Device, Kind, Tensor};

use crate::{
    CpuKernels, Dtype, RowAnswer, RowInput, RowTask, SharedImageCache, VisionDtype,
    batch::layout::BatchLayout,
    cache::key_value_shape::KeyValueShape,
    cuda_graphs::decode_buffers::DecodeBuffers,
    decoder::token_choice::{argmax_with_margin, read_choices},
    options::LoadOptions,
    tests::golden_files::{Case, Golden, golden, goldens, run},
    text::image_states::ImageStates,
};

fn alone(model: &mut crate::model::Model, case: &Case) -> RowAnswer {
    run(model, &[case], Vec::new()).outcomes.remove(0).unwrap().unwrap()
}

fn assert_same(batched: &RowAnswer, alone: &RowAnswer) -> Result<(), TestCaseError> {
    let (batched, alone) = (batched.output.best().unwrap(), alone.output.best().unwrap());
    prop_assert_eq!(&batched.token_ids, &alone.token_ids);
    prop_assert!((batched.score - alone.score).abs() < 1e-3, "{} {}", batched.score, alone.score);
    Ok(())
}

#[test]
fn company_never_changes_an_answer() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        let alone: Vec<RowAnswer> = golden.cases.iter().map(|case| alone(&mut model, case)).collect();
        let model = std::cell::RefCell::new(model);
        let picks = prop::collection::vec(0..golden.cases.len(), 1..=64);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(24));
        let outcome = runner.run(&picks, |picks| {
            let cases: Vec<&Case> = picks.iter().map(|&pick| &golden.cases[pick]).collect();
            let rows = run(&mut model.borrow_mut(), &cases, Vec::new());
            for (outcome, &pick) in rows.outcomes.iter().zip(&picks) {
                assert_same(outcome.as_ref().unwrap().as_ref().unwrap(), &alone[pick])?;
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{}: {outcome:?}", golden.name);
    }
}

#[test]
fn keys_and_values_that_are_kept_change_no_answer() {
    for golden in goldens() {
        let alone: Vec<RowAnswer> = {
            let mut model = golden.model_with(Dtype::F32, without_key_values(&golden));
            golden.cases.iter().map(|case| alone(&mut model, case)).collect()
        };
        let all: Vec<&Case> = golden.cases.iter().collect();
        let mut model = golden.model(Dtype::F32);
        let shape = match golden.kernels {
            CpuKernels::LibTorch => {
                model.answering().questions.key_values(model.config.vision.tokens()).unwrap().0
            }
            CpuKernels::Auto | CpuKernels::Native => KeyValueShape::for_config(&model.config),
        };
        for images in [1, 2, 64] {
            let cross_attention_cache_bytes = images * shape.bytes(Kind::Float);
            model = golden
                .model_with(Dtype::F32, LoadOptions { cross_attention_cache_bytes, ..golden.options() });
            let mut cached = 0;
            // Alone and together, so that images are new, kept and have given way, in batches of any mixture.
            for turn in 0..4 * all.len() {
                let picked = &all[..if turn % 3 == 2 { all.len() } else { 1 + turn % all.len() }];
                let cases = if turn % 2 == 0 { picked } else { &picked[picked.len() - 1..] };
                let rows = run(&mut model, cases, Vec::new());
                cached += rows.cached;
                for (outcome, case) in rows.outcomes.iter().zip(cases) {
                    let pick = all.iter().position(|other| std::ptr::eq(*other, *case)).unwrap();
                    assert_same(outcome.as_ref().unwrap().as_ref().unwrap(), &alone[pick]).unwrap();
                }
            }
            assert!(cached > 0, "{}: nothing was kept with room for {images}", golden.name);
        }
    }
}

#[test]
fn models_that_share_what_they_keep_encode_no_image_twice_and_answer_as_if_alone() {
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
            golden.cases.iter().map(|case| alone(&mut model, case)).collect()
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
        // The first encodes, the second keeps keys and values, the third reads them.
        for (turn, model) in models.iter_mut().enumerate() {
            let rows = run(model, &all, Vec::new());
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
fn an_images_features_in_int8_are_the_same_in_any_company() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model_in(Dtype::F32, VisionDtype::Int8);
    let all: Vec<_> = golden.cases.iter().map(|case| &case.pixels).collect();
    let together = model.features(&all);
    for (image, pixels) in (0..).zip(all) {
        let alone = model.features(&[pixels]);
        // Sums in f32, of the attention and the norms, are ordered by the size of the batch.
        let difference = (alone - together.narrow(0, image, 1)).abs().max().double_value(&[]);
        assert!(difference < 0.02, "image {image}: {difference}");
    }
}

#[test]
fn a_cancelled_row_is_not_reported_and_changes_nothing_for_the_others() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let cases: Vec<&Case> = golden.cases.iter().collect();
    let alone: Vec<RowAnswer> = golden.cases.iter().map(|case| alone(&mut model, case)).collect();
    for cancelled in 0..cases.len() {
        let rows = run(&mut model, &cases, vec![cancelled]);
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
    let rows = run(&mut model, &cases, Vec::new());
    let lengths: Vec<usize> = rows.order.iter().map(|&row| cases[row].generated_ids.len()).collect();
    assert!(lengths.is_sorted(), "{lengths:?}");
    assert!(lengths.first() < lengths.last(), "the goldens end at different steps");
    let longest = rows
        .outcomes
        .iter()
        .flatten()
        .flatten()
        .map(|answer| answer.output.best().unwrap().token_ids.len())
        .max();
    assert_eq!(Some(rows.steps as usize), longest);
}

/// What CUDA graphs run, here run as it is: larger than the batch, and used before by another one.
#[test]
fn a_decoder_of_fixed_shape_chooses_what_a_growing_one_does() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let steps = model.stopping.max_new_tokens;
    let shape = [8, 40, steps];
    let mut buffers = DecodeBuffers::new(shape, &model.config.text, model.device, Dtype::F32.kind()).unwrap();
    for cases in [&golden.cases[..], &golden.cases[..2], &golden.cases[1..2]] {
        let images = model.features(&cases.iter().map(|case| &case.pixels).collect::<Vec<_>>());
        let each: Vec<usize> = (0..cases.len()).collect();
        let questions: Vec<&[i64]> = cases.iter().map(|case| &case.input_ids[..]).collect();
        let lengths: Vec<i64> = questions.iter().map(|ids| ids.len() as i64).collect();
        let batch = model.answering().questions.prepare(&questions).unwrap();
        let states = model
            .answering()
            .questions
            .forward(&batch, ImageStates::of_features(&images), &BatchLayout::new(&each, each.clone()))
            .unwrap();

        let mut growing = model.answering().decoder.start(&states, batch.padding).unwrap();
        buffers.load(&states, &lengths).unwrap();
        buffers.start(&model.answering().decoder).unwrap();
        let mut tokens = vec![model.stopping.start_token; cases.len()];
        for step in 0..steps {
            buffers.set_step(&tokens, step).unwrap();
            let table = buffers.step(&model.answering().decoder).unwrap();
            let fixed = DecodeBuffers::read(&table, cases.len()).unwrap();
            let plain = read_choices(
                &argmax_with_margin(&model.answering().decoder.step(&tokens, &mut growing).unwrap()).unwrap(),
            )
            .unwrap();
            for (fixed, plain) in fixed.iter().zip(&plain) {
                assert_eq!(fixed.token, plain.token, "step {step}");
                assert!((fixed.log_probability - plain.log_probability).abs() < 1e-4, "step {step}");
            }
            tokens = plain.iter().map(|choice| choice.token).collect();
        }
    }
}

#[test]
fn a_first_token_that_is_kept_changes_nothing_for_rows_that_begin_with_it_or_with_another() {
    for golden in goldens() {
        let model = golden.model(Dtype::F32);
        let decoder = &model.answering().decoder;
        let start = model.stopping.start_token;
        let states = Tensor::randn([2, 5, model.config.text.hidden_size], (Kind::Float, model.device));
        // The first step ever makes what is kept; all after that find it.
        for tokens in [[start, start], [start, start], [start, start + 1], [start + 1, start + 1]] {
            let [mut shared, mut apart] = [(), ()].map(|()| decoder.start(&states, None).unwrap());
            for tokens in [tokens, [start + 1, start]] {
                let ids = Tensor::from_slice(&tokens).view([2, 1]);
                let apart = decoder.step_on_device(&ids, &mut apart).unwrap();
                let difference = (decoder.step(&tokens, &mut shared).unwrap() - apart).abs().max();
                assert!(difference.double_value(&[]) < 1e-4, "{}: {tokens:?}", golden.name);
            }
        }
    }
}

#[test]
fn an_image_that_was_seen_is_reused_and_answers_the_same() {
    let golden = golden("fifty_by_ten");
    let mut model = golden.model(Dtype::F32);
    let first = alone(&mut model, &golden.cases[0]);
    let second = alone(&mut model, &golden.cases[0]);
    assert!(!first.image_reused && second.image_reused);
    assert_eq!(second.vision, std::time::Duration::ZERO);
    assert_same(&second, &first).unwrap();
}

#[test]
fn a_batch_that_breaks_a_limit_is_refused_with_the_limit() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let input = crate::ImageInput { digest: [0; 32], pixels: &golden.cases[0].pixels };
    let mut rows = crate::tests::golden_files::Collected::default();
    let cases: [(usize, &[i64], &str); 5] = [
        (1, &[2, 3], "image 1, batch has 1"),
        (0, &[], "0 tokens, expected 1 to 64"),
        (0, &[0; 65], "65 tokens, expected 1 to 64"),
        (0, &[118], "token id 118, vocabulary has 118"),
        (0, &[-1], "token id -1"),
    ];
    for (image, token_ids, words) in cases {
        let row = RowInput { image: Some(image), token_ids, task: &RowTask::GREEDY };
        let error = model.run(&[input], &[row], &mut rows).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
