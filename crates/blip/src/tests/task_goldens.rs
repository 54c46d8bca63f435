//! Reads the goldens of one task: a loaded model, two images and the reference's results.

use serde::{Deserialize, de::DeserializeOwned};
use tch::Device;

use crate::{
    CheckpointOptions, Dtype, Pixels, RowInput, RowSink, Tokenizer,
    model::Model,
    options::LoadOptions,
    tests::golden_files::{Folder, RowCollector, image_inputs},
};

/// A loaded model with its golden folder, images and cases.
pub(super) struct TaskGolden<Case> {
    pub(super) folder: Folder,
    pub(super) model: Model,
    pub(super) tokenizer: Tokenizer,
    pub(super) images: Vec<Pixels>,
    pub(super) cases: Vec<Case>,
}

/// The content of `expected.json`.
#[derive(Deserialize)]
struct Expected<Case> {
    cases: Vec<Case>,
}

impl<Case: DeserializeOwned> TaskGolden<Case> {
    /// Loads the golden folder `name` of `crates/blip/tests`, without a feature cache.
    pub(super) fn open(name: &str, options: CheckpointOptions) -> Self {
        let folder = Folder::open(name);
        let checkpoint = folder.checkpoint(options);
        let options = LoadOptions { feature_cache_bytes: 0, ..LoadOptions::for_device(Device::Cpu) };
        Self {
            model: Model::load(&checkpoint, Device::Cpu, Dtype::F32, options).unwrap(),
            tokenizer: checkpoint.tokenizer().clone(),
            images: ["image0.pixels", "image1.pixels"].map(|name| folder.pixels(name)).into(),
            cases: folder.expected::<Expected<Case>>().cases,
            folder,
        }
    }
}

impl<Case> TaskGolden<Case> {
    /// Runs `rows` in one batch and collects their outcomes.
    pub(super) fn run(&mut self, rows: &[RowInput<'_>]) -> RowCollector {
        let mut sink = RowCollector::for_rows(rows.len());
        self.run_into(rows, &mut sink);
        sink
    }

    /// Runs `rows` in one batch and reports their outcomes to `sink`.
    pub(super) fn run_into(&mut self, rows: &[RowInput<'_>], sink: &mut dyn RowSink) {
        self.model.run(&image_inputs(&self.images), rows, sink).unwrap();
    }
}
