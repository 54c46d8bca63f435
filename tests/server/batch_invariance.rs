//! Batch composition never changes an answer, checked through the whole server.

use std::{cell::RefCell, collections::HashMap, num::NonZeroUsize, sync::Arc};

use blip::{Checkpoint, Dtype, LoadOptions, ModelFiles};
use blip_server::{
    config::Settings,
    engine::blip_engine::{BlipEngine, EnginePlacement},
    models::{info::ModelInfo, loaded_model::LoadedModel},
    preprocess::{fetch::ImageFetcher, preparer::Preparer},
};
use futures::{StreamExt as _, future::join_all};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use proto::{
    Answer, AskRequest, AskResponse, Image, ImageQuestions, Question, ask_response::Outcome, image::Source,
};
use scheduler::Scheduler;
use tokio::runtime::Runtime;

use crate::support::{Server, golden_folder};

/// The maximum difference of scores. Sums of floating-point numbers depend on their order.
const SCORE_TOLERANCE: f32 = 1e-4;

/// The margin up to which an answer is a near tie and is not compared.
///
/// A model with random weights sometimes scores two tokens equally, except for rounding.
const NEAR_TIE_MARGIN: f32 = 1e-4;

const MODEL: &str = "class_defaults";
const IMAGES: usize = 4;
/// Words of the vocabulary, and some that consist of several tokens.
const WORDS: [&str; 12] =
    ["how", "many", "red", "green", "dog", "two", "is", "the", "circle", "boxes", "Rhinoceros", "Café"];

/// The index of an image, and a question.
type Item = (usize, String);

/// Returns different images of noise.
///
/// With random weights, every pixel influences the answer.
fn images() -> Vec<Vec<u8>> {
    (0..IMAGES).map(|seed| noise(20 + 12 * seed as u32, 35, seed as u32)).collect()
}

/// Returns a BMP file of 24-bit pixels. `width` is a multiple of 4.
fn noise(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let pixel_bytes = width * height * 3;
    let mut file = b"BM".to_vec();
    for field in [54 + pixel_bytes, 0, 54, 40, width, height, 24 << 16 | 1, 0, pixel_bytes, 0, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    let mut state = seed;
    file.extend((0..pixel_bytes).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    }));
    file
}

fn questions() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 1..33).prop_map(|words| words.join(" "))
}

/// Concurrent requests, each with several images and their questions.
fn concurrent_requests() -> impl Strategy<Value = Vec<Vec<(usize, Vec<String>)>>> {
    let input = (0..IMAGES, proptest::collection::vec(questions(), 1..6));
    proptest::collection::vec(proptest::collection::vec(input, 1..4), 3..6)
}

async fn start() -> Server {
    let settings = Settings::default();
    let load = async {
        let checkpoint = Checkpoint::open(&ModelFiles::Folder(golden_folder(MODEL)))?;
        let (preprocessor, tokenizer) = (checkpoint.preprocessor().clone(), checkpoint.tokenizer().clone());
        let settings = Settings::default();
        let preparer =
            Preparer::new(images::Decoder::default(), preprocessor, tokenizer, &settings.preprocess)?;
        let fetcher = ImageFetcher::new(&settings.fetch, &settings.limits)?;
        let device = tch::Device::Cpu;
        let mut options = LoadOptions::for_device(device);
        // Without a feature cache, the features of an image are computed again for each batch.
        options.feature_cache_bytes = 0;
        options.max_batch_images = 3;
        let mut config = settings.scheduler.config();
        config.batch.max_images = 3;
        let placement = EnginePlacement { device, dtype: Dtype::F32, options, threads: NonZeroUsize::MIN };
        let info =
            ModelInfo::new("batch_invariance".into(), "golden", None, &checkpoint, "cpu", "f32").into();
        let scheduler =
            Scheduler::start(config, vec![BlipEngine::factory(Arc::new(checkpoint), placement, None)])
                .await?;
        anyhow::Ok(LoadedModel { fetcher, preparer, scheduler, info, generation: blip::Generation::GREEDY })
    };
    let (ready, ready_receiver) = tokio::sync::oneshot::channel();
    let server = Server::launch(settings, load, move || ready.send(()).unwrap()).await;
    ready_receiver.await.unwrap();
    server
}

async fn ask(server: &Server, images: &[Vec<u8>], inputs: &[(usize, Vec<String>)]) -> Vec<(Item, Answer)> {
    let input = |(image, questions): &(usize, Vec<String>)| ImageQuestions {
        image: Some(Image { source: Some(Source::Data(images[*image].clone().into())) }),
        questions: questions
            .iter()
            .map(|text| Question { text: text.clone(), ..Question::default() })
            .collect(),
    };
    let request = AskRequest { inputs: inputs.iter().map(input).collect(), ..AskRequest::default() };
    let responses = server.client().await.ask(request).await.unwrap().into_inner();
    let item = |response: AskResponse| {
        let (image, questions) = &inputs[response.image_index as usize];
        let Some(Outcome::Answer(answer)) = response.outcome else { panic!("{response:?}") };
        ((*image, questions[response.question_index as usize].clone()), answer)
    };
    responses.map(|response| item(response.unwrap())).collect().await
}

#[test]
fn answer_does_not_depend_on_batch_composition() {
    let runtime = Runtime::new().unwrap();
    let images = images();
    let server = runtime.block_on(start());
    let references: RefCell<HashMap<Item, Answer>> = RefCell::default();
    let (compared, near_ties) = (RefCell::new(0), RefCell::new(0));
    let mut runner = TestRunner::new(Config { cases: 20, failure_persistence: None, ..Config::default() });
    runner
        .run(&concurrent_requests(), |requests| {
            runtime.block_on(async {
                let together = join_all(requests.iter().map(|inputs| ask(&server, &images, inputs))).await;
                for (item, answer) in together.into_iter().flatten() {
                    let known = references.borrow().get(&item).cloned();
                    let reference = match known {
                        Some(reference) => reference,
                        None => {
                            let inputs = [(item.0, vec![item.1.clone()])];
                            let reference = ask(&server, &images, &inputs).await.remove(0).1;
                            assert_eq!(reference.timing.unwrap().batch_questions, 1);
                            references.borrow_mut().insert(item.clone(), reference.clone());
                            reference
                        }
                    };
                    if reference.margin <= NEAR_TIE_MARGIN {
                        *near_ties.borrow_mut() += 1;
                        continue;
                    }
                    prop_assert_eq!(&answer.token_ids, &reference.token_ids, "{:?}", item);
                    let difference = (answer.score - reference.score).abs();
                    prop_assert!(
                        difference <= SCORE_TOLERANCE,
                        "{item:?}: {} and {}",
                        answer.score,
                        reference.score
                    );
                    *compared.borrow_mut() += usize::from(answer.timing.unwrap().batch_questions > 1);
                }
                Ok(())
            })
        })
        .unwrap();
    // The test needs answers from batches with several rows, and few near ties.
    let (compared, near_ties) = (compared.into_inner(), near_ties.into_inner());
    assert!(compared > 20 && near_ties * 10 < compared, "{compared} compared, {near_ties} near ties");
}
