//! Compares random checkpoints in the shapes of the released ones with `transformers`.
//!
//! They are too large to commit. `tests/reference/generate/random_checkpoint.py` writes them, and
//! `tests/reference/reference_tasks.py` adds the results of the reference.

use serde::Deserialize;
use tch::{Device, Tensor};

use crate::{
    Architecture, Checkpoint, CheckpointOptions, Dtype, ModelFiles, Pixels, RowInput, RowOutput, RowTask,
    model::Model,
    options::LoadOptions,
    tests::golden_files::{Folder, RowCollector, image_inputs},
};

#[derive(Debug, Deserialize)]
struct Case {
    image: usize,
    text: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Outcome {
    Generated { written_ids: Vec<i64>, score: f32, margin: f32 },
    Matched { logits: [f32; 2], cosine: f32 },
}

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

/// Returns the largest differences from the reference: of features, relative to the largest one,
/// and of scores.
fn differences(folder: &Folder) -> [f64; 2] {
    let checkpoint = folder.checkpoint(CheckpointOptions::default());
    let options = LoadOptions::for_device(Device::Cpu);
    let mut model = Model::load(&checkpoint, Device::Cpu, Dtype::F32, options).unwrap();
    let images: Vec<Pixels> = ["image0.pixels", "image1.pixels"].map(|name| folder.pixels(name)).into();
    let mut largest = [0.0f64; 2];
    for (index, image) in images.iter().enumerate() {
        let features = model.features(&[image]).squeeze_dim(0);
        let expected = folder.tensor(&format!("image{index}.image_embeds"));
        let scale = expected.abs().max().double_value(&[]);
        largest[0] = largest[0].max((features - expected).abs().max().double_value(&[]) / scale);
    }

    let cases = folder.expected::<Expected>().cases;
    let tokenizer = checkpoint.tokenizer();
    let texts: Vec<Vec<i64>> = cases
        .iter()
        .map(|case| match checkpoint.architecture() {
            Architecture::Captioning => tokenizer.encode_prompt(&case.text).unwrap(),
            _ => tokenizer.encode(&case.text).unwrap(),
        })
        .collect();
    let task = match checkpoint.architecture() {
        Architecture::Retrieval => RowTask::Match,
        _ => RowTask::GREEDY,
    };
    let rows: Vec<RowInput<'_>> = cases
        .iter()
        .zip(&texts)
        .map(|(case, token_ids)| RowInput { image: Some(case.image), token_ids, task: &task })
        .collect();
    // One batch holds all cases. The reference computed each alone.
    let mut sink = RowCollector::for_rows(rows.len());
    model.run(&image_inputs(&images), &rows, &mut sink).unwrap();
    for (row, case) in cases.iter().enumerate() {
        let output = sink.outcomes[row].clone().unwrap().unwrap().output;
        let difference = match (&case.outcome, output) {
            (Outcome::Generated { written_ids, score, margin }, RowOutput::Generated(sequences)) => {
                assert_eq!(&sequences[0].token_ids, written_ids, "{case:?}, smallest margin {margin}");
                (sequences[0].score - score).abs()
            }
            (Outcome::Matched { logits, cosine }, RowOutput::Matched(scores)) => {
                let pairs = scores.logits.iter().zip(logits).chain([(&scores.cosine, cosine)]);
                pairs.map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max)
            }
            (_, output) => panic!("output {output:?} for {case:?}"),
        };
        largest[1] = largest[1].max(f64::from(difference));
    }
    largest
}

/// Reads the checkpoint folders from `BLIP_CHECKPOINTS`, separated by colons.
fn checkpoint_folders() -> Vec<String> {
    let folders =
        std::env::var("BLIP_CHECKPOINTS").expect("BLIP_CHECKPOINTS is unset, expected checkpoint folders");
    folders.split(':').map(str::to_owned).collect()
}

/// Returns the mean and the smallest cosine of the features of a token in `dtype` to those in f32.
///
/// The image is noise.
fn cosines(folder: &str, dtype: Dtype) -> [f64; 2] {
    let checkpoint = Checkpoint::open(&ModelFiles::Folder(folder.into())).unwrap();
    let side = checkpoint.config().vision.image_size.try_into().unwrap();
    let noise = (0..3 * side * side).map(|index: usize| ((index * index % 65_521 * 7_919) >> 8) as u8);
    let image = Pixels::new(side, side, noise.collect()).unwrap();
    let [exact, rounded] = [Dtype::F32, dtype].map(|dtype| {
        let options = LoadOptions::for_device(Device::Cpu);
        let mut model = Model::load(&checkpoint, Device::Cpu, dtype, options).unwrap();
        model.features(&[&image]).squeeze_dim(0)
    });
    let cosines = Tensor::cosine_similarity(&exact, &rounded, 1, 1e-12);
    [cosines.mean(None), cosines.min()].map(|cosine| cosine.double_value(&[]))
}

#[expect(clippy::print_stdout, reason = "the cosines are the result of this test")]
#[test]
#[ignore = "needs checkpoints of gigabytes, see tests/reference/reference_tasks.py"]
fn rounded_features_of_true_size_have_the_direction_of_f32() {
    for folder in checkpoint_folders() {
        for (dtype, limit) in [(Dtype::Bf16, 0.9998), (Dtype::Int8, 0.999)] {
            let [mean, smallest] = cosines(&folder, dtype);
            println!("{folder}: cosine in {dtype} {mean:.5} on average, at least {smallest:.5}");
            assert!(mean > limit, "{folder} in {dtype}: {mean}");
        }
    }
}

#[expect(clippy::print_stdout, reason = "the differences are the result of this test")]
#[test]
#[ignore = "needs checkpoints of gigabytes, see tests/reference/reference_tasks.py"]
fn random_checkpoints_of_true_size_equal_the_reference() {
    for folder in checkpoint_folders() {
        let [features, scores] = differences(&Folder::at((&folder).into()));
        println!("{folder}: features differ by {features:.1e} of the largest, scores by {scores:.1e}");
        assert!(features < 1e-3 && scores < 1e-2, "{folder}");
    }
}
