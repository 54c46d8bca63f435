//! A reference checkpoint for one task, loaded, with two images and the reference's results.

use serde::{Deserialize, de::DeserializeOwned};
use tch::Device;

use crate::{
    CheckpointOptions, Dtype, Pixels, RowInput, RowSink, Tokenizer,
    model::Model,
    options::LoadOptions,
    tests::golden_files::{Collected, Folder, inputs},
};

pub(super) struct TaskGolden<Case> {
    pub(super) folder: Folder,
    pub(super) model: Model,
    pub(super) tokenizer: Tokenizer,
    pub(super) images: Vec<Pixels>,
    pub(super) cases: Vec<Case>,
}

/// `expected.json`.
#[derive(Deserialize)]
struct Expected<Case> {
    cases: Vec<Case>,
}

impl<Case: DeserializeOwned> TaskGolden<Case> {
    /// Loads the folder `name` below `tests`.
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
    /// Runs `rows` in one batch.
    pub(super) fn run(&mut self, rows: &[RowInput<'_>]) -> Collected {
        let mut sink = Collected::for_rows(rows.len());
        self.run_into(rows, &mut sink);
        sink
    }

    /// Runs `rows` in one batch, into `sink`.
    pub(super) fn run_into(&mut self, rows: &[RowInput<'_>], sink: &mut dyn RowSink) {
        self.model.run(&inputs(&self.images), rows, sink).unwrap();
    }
}
