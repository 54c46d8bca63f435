//! Compares every stage with `transformers`, and with itself in other batches and thread counts.

use cpu_kernels::NumberFormat;
use tch::{Device, Kind, Tensor};

use crate::{
    CpuKernels, Dtype, LoadOptions,
    batch::layout::BatchLayout,
    cache::batch_key_values::BatchKeyValues,
    cache::{batch_features::BatchFeatures, float_buffer::FloatBuffer, shared::SharedImageCache},
    cpu::{
        CpuQuestionAnswering, image_states::CpuImageStates, text_encoder::CpuTextStates,
        vision_encoder::CpuVisionEncoder,
    },
    decoder::vocabulary_layer::load_vocabulary_layer,
    layers::weight_path::WeightPath,
    parallel::worker_pool::WorkerPool,
    tests::golden_files::{Golden, goldens},
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

fn answering(golden: &Golden) -> CpuQuestionAnswering {
    let (root, config) = (root(golden), golden.checkpoint.config());
    let shape = [config.text.vocab_size, config.text.hidden_size];
    let word = root.tensor(crate::checkpoint::weights::tensor_names::WORDS, &shape).unwrap();
    let vocabulary = load_vocabulary_layer(golden.checkpoint.weights(), &root, config, &word).unwrap();
    CpuQuestionAnswering::load(&root, config, &vocabulary).unwrap()
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
    let formats = [
        (NumberFormat::F32, 0.0..1e-4),
        (NumberFormat::Bf16, f64::MIN_POSITIVE..0.05),
        (NumberFormat::Int8, f64::MIN_POSITIVE..0.05),
    ];
    // Without AVX-512 VNNI, LibTorch computes a model in int8.
    for (format, errors) in formats.into_iter().filter(|(format, _)| format.is_supported()) {
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

/// Returns the states of all questions of `golden`, each with its image, in the order of the
/// layout.
fn read(golden: &Golden, answering: &CpuQuestionAnswering) -> (CpuTextStates, BatchLayout) {
    let (vision, config) = (vision(golden, NumberFormat::F32, 1), golden.checkpoint.config());
    let image_of_row: Vec<usize> = (0..golden.cases.len()).collect();
    let layout = BatchLayout::new(&image_of_row, image_of_row.clone());
    let pixels: Vec<_> = layout.images.iter().map(|&image| &golden.cases[image].pixels).collect();
    let shape @ [tokens, hidden] = [config.vision.tokens(), config.vision.hidden_size];
    let of_image = (tokens * hidden) as usize;
    let features = vision.forward(&pixels, |all| all.chunks_exact(of_image).map(FloatBuffer::from).collect());
    let features = BatchFeatures::Buffers(features, shape);
    let ids: Vec<&[i64]> = layout.rows.iter().map(|&row| &golden.cases[row].input_ids[..]).collect();
    let options = LoadOptions { cpu_kernels: CpuKernels::Native, ..golden.options() };
    let shared_cache =
        SharedImageCache::for_models(&golden.checkpoint, Device::Cpu, Dtype::F32, &options).unwrap();
    let mut cache = BatchKeyValues::new(&shared_cache);
    let mut images = CpuImageStates::new(&features, &mut cache, tokens);
    (answering.questions.forward(&ids, &mut images, &layout).unwrap(), layout)
}

/// Question states and the tokens of greedy answers equal those of `transformers`.
#[test]
fn question_states_and_answer_tokens_equal_the_reference() {
    for golden in goldens() {
        let (answering, config) = (answering(&golden), golden.checkpoint.config());
        let (states, layout) = read(&golden, &answering);
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
            let choices = answering.decoder.step(&tokens, &mut state);
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
        let answering = answering(&golden);
        let (states, _) = read(&golden, &answering);
        let positions: Vec<i64> = (0..golden.cases.len() as i64).collect();
        let [mut all, mut some] = [(), ()].map(|()| answering.decoder.start(&states, &positions));
        let tokens = vec![golden.checkpoint.config().text.bos_token_id; positions.len()];
        let next: Vec<i64> =
            answering.decoder.step(&tokens, &mut all).iter().map(|choice| choice.token).collect();
        answering.decoder.step(&tokens, &mut some);
        let left: Vec<i64> = positions.iter().copied().filter(|position| position % 2 == 1).collect();
        some.retain(&left);
        let next_of_left: Vec<i64> = left.iter().map(|&position| next[position as usize]).collect();
        let expected = answering.decoder.step(&next, &mut all);
        let found = answering.decoder.step(&next_of_left, &mut some);
        let expected: Vec<_> = left.iter().map(|&position| expected[position as usize]).collect();
        assert!(!found.is_empty() && found == expected, "{}: {found:?}, {expected:?}", golden.name);
    }
}
