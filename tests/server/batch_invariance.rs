//! Company never changes an answer: the model's promise, kept through the whole server.

use std::{cell::RefCell, collections::HashMap, num::NonZeroUsize, sync::Arc};

use blip::{Checkpoint, Dtype, ModelFiles, LoadOptions};
use futures::{StreamExt as _, future::join_all};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use proto::{
    Answer, AskRequest, AskResponse, Image, ImageQuestions, Question, ask_response::Outcome, image::Source,
};
use scheduler::Scheduler;
use server::{
    config::Settings,
    engine::blip_engine::{BlipEngine, EnginePlacement},
    models::{info::ModelInfo, loaded_model::LoadedModel},
    preprocess::{fetch::ImageFetcher, preparer::Preparer},
};
use tokio::runtime::Runtime;

use crate::support::{Server, golden_folder};

/// How far scores of the same answer may lie apart: sums of floating point numbers in another order.
const SCORE_TOLERANCE: f32 = 1e-4;

/// A model with random weights now and then finds two tokens equally good, up to rounding: such a draw proves nothing.
const DRAW_MARGIN: f32 = 1e-4;

const MODEL: &str = "class_defaults";
const IMAGES: usize = 4;
/// Words of the model's vocabulary and some that it has to spell.
const WORDS: [&str; 12] =
    ["how", "many", "red", "green", "dog", "two", "is", "the", "picture", "boxes", "Rhinoceros", "Café"];

/// (image, question) as an index and a text.
type Pair = (usize, String);

/// Pictures of noise, each another one: every pixel matters to a model with random weights.
fn images() -> Vec<Vec<u8>> {
    (0..IMAGES).map(|seed| noise(20 + 12 * seed as u32, 35, seed as u32)).collect()
}

/// A BMP file of 24-bit pixels, its `width` a multiple of 4.
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

/// Requests that run at the same time, each with inputs of one image and its questions.
fn crowds() -> impl Strategy<Value = Vec<Vec<(usize, Vec<String>)>>> {
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
        // Room for so few images that features are evicted and computed anew all the time.
        options.feature_cache_bytes = 0;
        options.max_batch_images = 3;
        let mut config = settings.scheduler.config();
        config.batch.max_images = 3;
        let placement =
            EnginePlacement { device, dtype: Dtype::F32, options, threads: Some(NonZeroUsize::MIN) };
        let info = ModelInfo::new("company".into(), "golden", None, &checkpoint, "cpu", "f32").into();
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

async fn ask(server: &Server, images: &[Vec<u8>], inputs: &[(usize, Vec<String>)]) -> Vec<(Pair, Answer)> {
    let input = |(image, questions): &(usize, Vec<String>)| ImageQuestions {
        image: Some(Image { source: Some(Source::Data(images[*image].clone().into())) }),
        questions: questions
            .iter()
            .map(|text| Question { text: text.clone(), ..Question::default() })
            .collect(),
    };
    let request = AskRequest { inputs: inputs.iter().map(input).collect(), ..AskRequest::default() };
    let responses = server.client().await.ask(request).await.unwrap().into_inner();
    let paired = |response: AskResponse| {
        let (image, questions) = &inputs[response.image_index as usize];
        let Some(Outcome::Answer(answer)) = response.outcome else { panic!("{response:?}") };
        ((*image, questions[response.question_index as usize].clone()), answer)
    };
    responses.map(|response| paired(response.unwrap())).collect().await
}

#[test]
fn company_never_changes_an_answer() {
    let runtime = Runtime::new().unwrap();
    let images = images();
    let server = runtime.block_on(start());
    let alone: RefCell<HashMap<Pair, Answer>> = RefCell::default();
    let (compared, draws) = (RefCell::new(0), RefCell::new(0));
    let mut runner = TestRunner::new(Config { cases: 20, failure_persistence: None, ..Config::default() });
    runner
        .run(&crowds(), |crowd| {
            runtime.block_on(async {
                let together = join_all(crowd.iter().map(|inputs| ask(&server, &images, inputs))).await;
                for (pair, answer) in together.into_iter().flatten() {
                    let known = alone.borrow().get(&pair).cloned();
                    let reference = match known {
                        Some(reference) => reference,
                        None => {
                            let inputs = [(pair.0, vec![pair.1.clone()])];
                            let reference = ask(&server, &images, &inputs).await.remove(0).1;
                            assert_eq!(reference.timing.unwrap().batch_questions, 1);
                            alone.borrow_mut().insert(pair.clone(), reference.clone());
                            reference
                        }
                    };
                    if reference.margin <= DRAW_MARGIN {
                        *draws.borrow_mut() += 1;
                        continue;
                    }
                    prop_assert_eq!(&answer.token_ids, &reference.token_ids, "{:?}", pair);
                    let apart = (answer.score - reference.score).abs();
                    prop_assert!(
                        apart <= SCORE_TOLERANCE,
                        "{pair:?}: {} and {}",
                        answer.score,
                        reference.score
                    );
                    *compared.borrow_mut() += usize::from(answer.timing.unwrap().batch_questions > 1);
                }
                Ok(())
            })
        })
        .unwrap();
    // A test in which nobody had company would prove nothing.
    let (compared, draws) = (compared.into_inner(), draws.into_inner());
    assert!(compared > 20 && draws * 10 < compared, "{compared} answers had company, {draws} were draws");
}
