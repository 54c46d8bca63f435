//! Folders of reference checkpoints for one task each: pictures of u8, numbers in `expected.json`, states in a safetensors file.

use std::{fs, path::PathBuf};

use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use tch::{Kind, Tensor};

use crate::{Checkpoint, CheckpointOptions, ImageInput, ModelFiles, Pixels, tests::golden_files::key};

/// A folder below `tests` with a checkpoint and what was expected of it.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    tensors: Vec<u8>,
}

impl Folder {
    pub(super) fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
        Self::at(path)
    }

    pub(super) fn at(path: PathBuf) -> Self {
        let tensors = fs::read(path.join("expected.safetensors")).unwrap();
        Self { path, tensors }
    }

    pub(super) fn checkpoint(&self, options: CheckpointOptions) -> Checkpoint {
        Checkpoint::open_with(&ModelFiles::Folder(self.path.clone()), options).unwrap()
    }

    pub(super) fn expected<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&fs::read(self.path.join("expected.json")).unwrap()).unwrap()
    }

    pub(super) fn tensor(&self, name: &str) -> Tensor {
        tensor(&self.tensors, name)
    }

    pub(super) fn pixels(&self, name: &str) -> Pixels {
        pixels(&self.tensor(name))
    }
}

/// A tensor of a safetensors file of f32, u8 and i64.
pub(super) fn tensor(file: &[u8], name: &str) -> Tensor {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let view = tensors.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    let kind = match view.dtype() {
        safetensors::Dtype::F32 => Kind::Float,
        safetensors::Dtype::U8 => Kind::Uint8,
        safetensors::Dtype::I64 => Kind::Int64,
        other => panic!("{name} is of {other:?}"),
    };
    Tensor::from_data_size(view.data(), &shape, kind)
}

/// `[height, width, 3]` of u8.
pub(super) fn pixels(values: &Tensor) -> Pixels {
    let (height, width, _) = values.size3().unwrap();
    let data = Vec::<u8>::try_from(values.flatten(0, -1)).unwrap();
    Pixels::new(height as usize, width as usize, data).unwrap()
}

/// The pictures of a batch.
pub(super) fn inputs(pictures: &[Pixels]) -> Vec<ImageInput<'_>> {
    pictures.iter().map(|pixels| ImageInput { digest: key(pixels), pixels }).collect()
}
