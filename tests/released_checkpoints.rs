//! Compares answers of the released checkpoints with the published ones.
//!
//! The expected answers are those of the authors and of the tests of `transformers`. The tests are
//! ignored by default. They need:
//!
//! - the weights in the cache that `HF_HOME` names, because the tests download nothing;
//! - `demo.jpg` of <https://github.com/salesforce/BLIP>, a woman and her dog on a beach, whose path is
//!   in `BLIP_DEMO_IMAGE`.
//!
//! ```console
//! $ blip-serve download Salesforce/blip-vqa-base    # and the other models
//! $ BLIP_DEMO_IMAGE=demo.jpg cargo test --test released_checkpoints -- --ignored
//! ```
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use blip::{
    Checkpoint, Dtype, ImageInput, LoadOptions, Model, ModelFiles, Pixels, RgbView, RowAnswer, RowError,
    RowInput, RowOutput, RowSink, RowTask,
};
use hub::{Config, Hub, Progress, RepositoryName};
use images::{Decoder, Limits};
use tch::Device;

/// The result of a batch with one row.
#[derive(Default)]
struct SingleRow(Option<Result<RowAnswer, RowError>>);

impl RowSink for SingleRow {
    fn finish(&mut self, _row: usize, outcome: Result<RowAnswer, RowError>) {
        self.0 = Some(outcome);
    }

    fn is_cancelled(&self, _row: usize) -> bool {
        false
    }
}

/// Opens a cached checkpoint.
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

fn test_pixels(checkpoint: &Checkpoint) -> Pixels {
    let path = std::env::var("BLIP_DEMO_IMAGE").expect("BLIP_DEMO_IMAGE names the image");
    let image = Decoder::new(Limits::default()).decode(&std::fs::read(path).unwrap()).unwrap();
    let view = RgbView::new(image.width as usize, image.height as usize, &image.data).unwrap();
    checkpoint.preprocessor().resize(view)
}

fn run(checkpoint: &Checkpoint, token_ids: &[i64], task: &RowTask) -> RowOutput {
    let options = LoadOptions::for_device(Device::Cpu);
    let mut model = Model::load(checkpoint, Device::Cpu, Dtype::F32, options).unwrap();
    let pixels = test_pixels(checkpoint);
    let mut sink = SingleRow::default();
    let row = RowInput { image: Some(0), token_ids, task };
    model.run(&[ImageInput { digest: [0; 32], pixels: &pixels }], &[row], &mut sink).unwrap();
    sink.0.unwrap().unwrap().output
}

#[test]
#[ignore = "needs Salesforce/blip-vqa-base in the cache, and BLIP_DEMO_IMAGE"]
fn question_answering_counts_one_dog() {
    let checkpoint = open("Salesforce/blip-vqa-base");
    let question = checkpoint.tokenizer().encode("how many dogs are in the picture?").unwrap();
    let output = run(&checkpoint, &question, &RowTask::GREEDY);
    assert_eq!(output.best().unwrap().token_ids, [1015, 102]);
    assert_eq!(checkpoint.tokenizer().decode(&output.best().unwrap().token_ids), "1");
}

#[test]
#[ignore = "needs Salesforce/blip-image-captioning-base in the cache, and BLIP_DEMO_IMAGE"]
fn captioning_describes_woman_and_dog_on_beach() {
    let checkpoint = open("Salesforce/blip-image-captioning-base");
    let prompt = checkpoint.tokenizer().encode_prompt("").unwrap();
    let output = run(&checkpoint, &prompt, &RowTask::GREEDY);
    let token_ids = &output.best().unwrap().token_ids;
    assert_eq!(token_ids, &[1037, 2450, 3564, 2006, 1996, 3509, 2007, 2014, 3899, 102]);
    let text = checkpoint.tokenizer().decode_caption(&prompt, token_ids);
    assert_eq!(text, "a woman sitting on the beach with her dog");
}

#[test]
#[ignore = "needs Salesforce/blip-itm-base-coco in the cache, and BLIP_DEMO_IMAGE"]
fn matching_accepts_true_description() {
    let checkpoint = open("Salesforce/blip-itm-base-coco");
    let text = checkpoint.tokenizer().encode("A woman and her dog sitting in a beach").unwrap();
    let RowOutput::Matched(scores) = run(&checkpoint, &text, &RowTask::Match) else { panic!("no match") };
    assert!((scores.probability() - 0.9971).abs() < 1e-3, "{scores:?}");
    assert!((scores.cosine - 0.5162).abs() < 1e-3, "{scores:?}");
}
