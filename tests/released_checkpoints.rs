//! The released checkpoints against what their makers and `transformers`' own tests publish of them. Left out by default: it
//! needs the weights in the cache that `HF_HOME` names (nothing is downloaded), and the picture that all of these answers
//! are about, the woman and her dog on a beach of <https://github.com/salesforce/BLIP> (`demo.jpg`), which
//! `BLIP_DEMO_PICTURE` names.
//!
//! ```console
//! $ blip-serve download Salesforce/blip-vqa-base    # and the others
//! $ BLIP_DEMO_PICTURE=demo.jpg cargo test --test released_checkpoints -- --ignored
//! ```
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use blip::{
    Checkpoint, Dtype, ImageInput, Model, ModelFiles, LoadOptions, Pixels, RgbView, RowAnswer, RowError,
    RowInput, RowOutput, RowSink, RowTask,
};
use hub::{Config, Hub, RepositoryName, Progress};
use images::{Decoder, Limits};
use tch::Device;

/// The only row's outcome.
#[derive(Default)]
struct Only(Option<Result<RowAnswer, RowError>>);

impl RowSink for Only {
    fn finish(&mut self, _row: usize, outcome: Result<RowAnswer, RowError>) {
        self.0 = Some(outcome);
    }

    fn is_cancelled(&self, _row: usize) -> bool {
        false
    }
}

/// Opens a model of the cache.
fn open(name: &str) -> Checkpoint {
    let offline = |variable: &str| match variable {
        "HF_HUB_OFFLINE" => Some("1".to_owned()),
        other => std::env::var(other).ok(),
    };
    let hub = Hub::new(Config::from_environment(offline).unwrap()).unwrap();
    let name: RepositoryName = name.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let snapshot = runtime.block_on(hub.fetch(&name, &Progress::logged())).unwrap();
    Checkpoint::open(&ModelFiles::Folder(snapshot.folder)).unwrap()
}

fn picture(checkpoint: &Checkpoint) -> Pixels {
    let path = std::env::var("BLIP_DEMO_PICTURE").expect("BLIP_DEMO_PICTURE names the picture");
    let image = Decoder::new(Limits::default()).decode(&std::fs::read(path).unwrap()).unwrap();
    let view = RgbView::new(image.width as usize, image.height as usize, &image.data).unwrap();
    checkpoint.preprocessor().resize(view)
}

fn run(checkpoint: &Checkpoint, token_ids: &[i64], task: &RowTask) -> RowOutput {
    let options = LoadOptions::for_device(Device::Cpu);
    let mut model = Model::load(checkpoint, Device::Cpu, Dtype::F32, options).unwrap();
    let pixels = picture(checkpoint);
    let mut only = Only::default();
    let row = RowInput { image: Some(0), token_ids, task };
    model.run(&[ImageInput { digest: [0; 32], pixels: &pixels }], &[row], &mut only).unwrap();
    only.0.unwrap().unwrap().output
}

#[test]
#[ignore = "needs Salesforce/blip-vqa-base in the cache, and BLIP_DEMO_PICTURE"]
fn the_answering_model_counts_one_dog() {
    let checkpoint = open("Salesforce/blip-vqa-base");
    let question = checkpoint.tokenizer().encode("how many dogs are in the picture?").unwrap();
    let output = run(&checkpoint, &question, &RowTask::GREEDY);
    assert_eq!(output.best().unwrap().token_ids, [1015, 102]);
    assert_eq!(checkpoint.tokenizer().decode(&output.best().unwrap().token_ids), "1");
}

#[test]
#[ignore = "needs Salesforce/blip-image-captioning-base in the cache, and BLIP_DEMO_PICTURE"]
fn the_captioning_model_sees_a_woman_on_the_beach_with_her_dog() {
    let checkpoint = open("Salesforce/blip-image-captioning-base");
    let prompt = checkpoint.tokenizer().encode_prompt("").unwrap();
    let output = run(&checkpoint, &prompt, &RowTask::GREEDY);
    let written = &output.best().unwrap().token_ids;
    assert_eq!(written, &[1037, 2450, 3564, 2006, 1996, 3509, 2007, 2014, 3899, 102]);
    let text = checkpoint.tokenizer().decode_caption(&prompt, written);
    assert_eq!(text, "a woman sitting on the beach with her dog");
}

#[test]
#[ignore = "needs Salesforce/blip-itm-base-coco in the cache, and BLIP_DEMO_PICTURE"]
fn the_matching_model_knows_a_true_description() {
    let checkpoint = open("Salesforce/blip-itm-base-coco");
    let text = checkpoint.tokenizer().encode("A woman and her dog sitting in a beach").unwrap();
    let RowOutput::Matched(scores) = run(&checkpoint, &text, &RowTask::Match) else { panic!("no match") };
    assert!((scores.probability() - 0.9971).abs() < 1e-3, "{scores:?}");
    assert!((scores.cosine - 0.5162).abs() < 1e-3, "{scores:?}");
}
