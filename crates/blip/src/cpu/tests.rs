//! Compares every stage with `transformers`, and with itself in other batches and thread counts.

use cpu_kernels::NumberFormat;
use tch::{Device, Kind, Tensor};

use crate::{
    batch::layout::BatchLayout,
    cache::{batch_features::BatchFeatures, feature_buffer::FeatureBuffer},
    cpu::{
        CpuQuestionAnswering, image_states::CpuImageStates, text_encoder::CpuTextStates,
        vision_encoder::CpuVisionEncoder,
    },
    decoder::TextDecoder,
    layers::weight_path::WeightPath,
    parallel::{ParallelKernels, worker_pool::WorkerPool},
    tests::golden_files::{Golden, goldens},
    text::encoder::TextEncoder,
};

/// Returns the root of the weights of `golden`, in f32 on the CPU.
fn root(golden: &Golden) -> WeightPath<'_> {
    WeightPath::root(golden.checkpoint.weights(), Device::Cpu, Kind::Float)
}

fn vision(golden: &Golden, format: NumberFormat, threads: usize) -> CpuVisionEncoder {
    let (scale, offset) = golden.checkpoint.preprocessor().normalisation();
    CpuVisionEncoder::load(
        &root(golden),
        &golden.checkpoint.config().vision,
        scale,
        offset,
        format,
        WorkerPool::with_current_thread(threads).unwrap(),
    )
    .unwrap()
}

/// Returns the networks for texts of `golden` with `kernels`.
fn answering(golden: &Golden, kernels: &ParallelKernels) -> CpuQuestionAnswering {
    let (root, config) = (root(golden).with_kernels(Some(kernels)), golden.checkpoint.config());
    let (weights, device, kind) = (golden.checkpoint.weights(), Device::Cpu, Kind::Float);
    let questions = TextEncoder::load(&root, config, device, kind).unwrap();
    let decoder = TextDecoder::load(weights, &root, config, config.text.hidden_size, device).unwrap();
    CpuQuestionAnswering::new(&questions, &decoder, config, kernels).unwrap()
}

fn kernels(threads: usize, format: NumberFormat) -> ParallelKernels {
    ParallelKernels::new(threads, format).unwrap()
}

/// Returns the largest difference relative to the largest expected number.
fn relative_error(found: &Tensor, expected: &Tensor) -> f64 {
    let found = found.view_as(expected);
    (found - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

/// Features equal those of `transformers`, and are equal to the bit in any batch and with any
/// number of threads.
#[test]
fn image_features_in_any_batch_equal_the_reference() {
    // Without products in bf16, attention in int8 is in f32. The largest error is then 0.0503.
    let int8_limit = if NumberFormat::Bf16.has_products() { 0.05 } else { 0.06 };
    let formats = [
        (NumberFormat::F32, 0.0..1e-4),
        (NumberFormat::Bf16, f64::MIN_POSITIVE..0.05),
        (NumberFormat::Int8, f64::MIN_POSITIVE..int8_limit),
    ];
    for (format, errors) in formats {
        for golden in goldens() {
            let (one_thread, three) = (vision(&golden, format, 1), vision(&golden, format, 3));
            let all: Vec<_> = golden.cases.iter().map(|case| &case.pixels).collect();
            let together = three.forward(&all, <[f32]>::to_vec);
            let of_image = together.len() / all.len();
            for (case, together) in golden.cases.iter().zip(together.chunks(of_image)) {
                one_thread.forward(&[&case.pixels], |alone| assert_eq!(alone, together, "{}", golden.name));
                let error = relative_error(&Tensor::from_slice(together), &case.image_embeds);
                assert!(errors.contains(&error), "{} in {format:?}: {error}", golden.name);
            }
        }
    }
}

/// Returns the states of all questions of `golden`, `times` times each with its image, in the order
/// of the layout.
fn read(golden: &Golden, answering: &CpuQuestionAnswering, times: usize) -> (CpuTextStates, BatchLayout) {
    let (vision, config) = (vision(golden, NumberFormat::F32, 1), golden.checkpoint.config());
    let count = golden.cases.len();
    let image_of_row: Vec<usize> = (0..times * count).map(|row| row % count).collect();
    let layout = BatchLayout::new(&image_of_row, 0..image_of_row.len());
    let pixels: Vec<_> = layout.images.iter().map(|&image| &golden.cases[image].pixels).collect();
    let shape @ [tokens, hidden] = [config.vision.tokens(), config.vision.hidden_size];
    let of_image = (tokens * hidden) as usize;
    let buffer = |features: &[f32]| FeatureBuffer::new(features, NumberFormat::F32);
    let features = vision.forward(&pixels, |all| all.chunks_exact(of_image).map(buffer).collect());
    let features = BatchFeatures::Buffers(features, shape);
    let ids: Vec<&[i64]> =
        layout.rows.iter().map(|&row| &golden.cases[image_of_row[row]].input_ids[..]).collect();
    let mut images = CpuImageStates::new(&features, 0..layout.images.len(), None).unwrap();
    (answering.questions.forward(&ids, Some((&mut images, &layout))).unwrap(), layout)
}

/// Question states and the tokens of greedy answers equal those of `transformers`.
#[test]
fn question_states_and_answer_tokens_equal_the_reference() {
    for golden in goldens() {
        let answering = answering(&golden, &kernels(1, NumberFormat::F32));
        let config = golden.checkpoint.config();
        let (states, layout) = read(&golden, &answering, 1);
        let encoder_states = states.to_encoder_states().unwrap();
        let positions: Vec<i64> = (0..layout.rows.len() as i64).collect();
        let mut state = answering.decoder.start(&states, &positions);
        let mut tokens: Vec<i64> = vec![config.text.bos_token_id; positions.len()];
        for (position, &row) in layout.rows.iter().enumerate() {
            let case = &golden.cases[row];
            let found = encoder_states.states.get(position as i64).narrow(0, 0, case.input_ids.len() as i64);
            let error = relative_error(&found, &case.question_states);
            assert!(error < 1e-4, "{} {:?}: {error}", golden.name, case.question);
        }
        let steps = golden.cases.iter().map(|case| case.generated_ids.len() - 1).max().unwrap();
        for step in 0..steps {
            let choices = answering.decoder.step(&tokens, &mut state).unwrap();
            for ((&row, choice), token) in layout.rows.iter().zip(&choices).zip(&mut tokens) {
                let case = &golden.cases[row];
                *token = choice.token;
                if let Some(&expected) = case.generated_ids.get(step + 1) {
                    let logits = case.step_logits.get(step as i64);
                    let score = (logits.get(expected) - logits.logsumexp(-1, false)).double_value(&[]);
                    assert_eq!(choice.token, expected, "{} {:?}", golden.name, case.question);
                    assert!((f64::from(choice.log_probability) - score).abs() < 1e-3);
                }
            }
        }
    }
}

/// Rows that are removed between two steps do not change the other rows, to the bit.
#[test]
fn remaining_rows_after_removal_are_equal_to_the_bit() {
    for golden in goldens() {
        let answering = answering(&golden, &kernels(1, NumberFormat::F32));
        let (states, _) = read(&golden, &answering, 1);
        let positions: Vec<i64> = (0..golden.cases.len() as i64).collect();
        let [mut all, mut some] = [(), ()].map(|()| answering.decoder.start(&states, &positions));
        let tokens = vec![golden.checkpoint.config().text.bos_token_id; positions.len()];
        let next: Vec<i64> =
            answering.decoder.step(&tokens, &mut all).unwrap().iter().map(|choice| choice.token).collect();
        answering.decoder.step(&tokens, &mut some).unwrap();
        let left: Vec<i64> = positions.iter().copied().filter(|position| position % 2 == 1).collect();
        some.retain(&left);
        let next_of_left: Vec<i64> = left.iter().map(|&position| next[position as usize]).collect();
        let expected = answering.decoder.step(&next, &mut all).unwrap();
        let found = answering.decoder.step(&next_of_left, &mut some).unwrap();
        let expected: Vec<_> = left.iter().map(|&position| expected[position as usize]).collect();
        assert!(!found.is_empty() && found == expected, "{}: {found:?}, {expected:?}", golden.name);
    }
}

/// States and answers are equal to the bit, whether threads divide products, texts or neither.
#[test]
fn texts_on_any_number_of_threads_are_equal_to_the_bit() {
    let formats = [NumberFormat::F32, NumberFormat::Bf16, NumberFormat::Int8];
    for format in formats.into_iter().filter(|format| format.is_supported()) {
        for golden in goldens() {
            let mut networks = [1, 3].map(|threads| answering(&golden, &kernels(threads, format)));
            // Without and with absorbed projections.
            for (times, threshold) in [(1, 0), (40, 0), (1, usize::MAX), (40, usize::MAX)] {
                networks.iter_mut().for_each(|network| network.questions.absorption_threshold = threshold);
                let found = networks.each_ref().map(|answering| {
                    let (states, layout) = read(&golden, answering, times);
                    let positions: Vec<i64> = (0..layout.rows.len() as i64).collect();
                    let mut state = answering.decoder.start(&states, &positions);
                    let mut choices = Vec::new();
                    let mut tokens = vec![golden.checkpoint.config().text.bos_token_id; positions.len()];
                    for _ in 0..2 {
                        let next = answering.decoder.step(&tokens, &mut state).unwrap();
                        tokens = next.iter().map(|choice| choice.token).collect();
                        choices.extend(next);
                    }
                    (states.states.to_vec(), choices)
                });
                let [one_thread, three] = &found;
                assert!(one_thread == three, "{} in {format:?}, {times} times, {threshold}", golden.name);
            }
        }
    }
}

/// Absorbed projections have the states of keys and values.
#[test]
fn states_from_features_equal_those_from_keys_and_values() {
    for threads in [1, 3] {
        for golden in goldens() {
            let mut answering = answering(&golden, &kernels(threads, NumberFormat::F32));
            for times in [1, 40] {
                answering.questions.absorption_threshold = 0;
                let (expected, _) = read(&golden, &answering, times);
                answering.questions.absorption_threshold = usize::MAX;
                let (found, _) = read(&golden, &answering, times);
                let [found, expected] = [&found, &expected].map(|states| Tensor::from_slice(&states.states));
                let error = relative_error(&found, &expected);
                assert!(error > 0.0 && error < 1e-4, "{}, {times} times: {error}", golden.name);
            }
        }
    }
}

/// Texts without images have the states of LibTorch's encoder.
#[test]
fn texts_without_images_equal_those_of_libtorch() {
    for golden in goldens() {
        let (kernels, config) = (kernels(2, NumberFormat::F32), golden.checkpoint.config());
        let encoder = TextEncoder::load(&root(&golden), config, Device::Cpu, Kind::Float).unwrap();
        let texts: Vec<&[i64]> = golden.cases.iter().map(|case| &case.input_ids[..]).collect();
        let batch = encoder.prepare(&texts).unwrap();
        let expected = encoder.forward_without_images(&batch).unwrap().select(1, 0);
        let states = answering(&golden, &kernels).questions.forward(&texts, None).unwrap();
        let error = relative_error(&states.first_states().unwrap(), &expected);
        assert!(error < 1e-4, "{}: {error}", golden.name);
    }
}
