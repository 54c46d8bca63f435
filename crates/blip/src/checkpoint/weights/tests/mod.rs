//! Tests of reading weights: lookup by name, file formats, malformed files.

pub(crate) mod formats;
mod malformed;

use safetensors::tensor::{TensorView, serialize};

use super::*;
use crate::layers::weight_path::WeightPath;

fn files(tensors: &[(&str, FileDtype, Vec<usize>, &[u8])]) -> tempfile::TempDir {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(SAFETENSORS), serialize(views, None).unwrap()).unwrap();
    folder
}

fn open(folder: &tempfile::TempDir) -> Result<Weights, LoadError> {
    Weights::open(&ModelFiles::Folder(folder.path().to_owned()))
}

#[test]
fn tensor_is_loaded_by_name_and_converted() {
    let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let folder = files(&[("a.weight", FileDtype::F32, vec![2], &data)]);
    let weights = open(&folder).unwrap();
    let scope = WeightPath::root(&weights, Device::Cpu, Kind::Half).at("a");
    let tensor = scope.tensor("weight", &[2]).unwrap();
    assert_eq!(tensor.kind(), Kind::Half);
    assert_eq!(Vec::<f32>::try_from(tensor.to_kind(Kind::Float)).unwrap(), [1.5, -2.0]);
}

#[test]
fn missing_or_misshapen_tensor_is_named_with_shapes() {
    let folder = files(&[("a.weight", FileDtype::F32, vec![2], &[0; 8])]);
    let weights = open(&folder).unwrap();
    let scope = WeightPath::root(&weights, Device::Cpu, Kind::Float).at("a");
    let error = scope.tensor("weight", &[3]).unwrap_err().to_string();
    assert_eq!(error, "tensor a.weight has shape [2], config.json requires [3]");
    let error = scope.tensor("bias", &[3]).unwrap_err().to_string();
    assert_eq!(error, "weights have no tensor a.bias, expected shape [3]");
}

#[test]
fn integer_buffers_are_ignored() {
    let folder = files(&[("position_ids", FileDtype::I64, vec![1], &[0; 8])]);
    assert!(!open(&folder).unwrap().contains("position_ids"));
}

#[test]
fn truncated_weights_are_rejected_with_file_name() {
    let folder = files(&[("a", FileDtype::F32, vec![2], &[0; 8])]);
    let path = folder.path().join(SAFETENSORS);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let error = open(&folder).unwrap_err().to_string();
    assert!(error.starts_with("model.safetensors is not valid"), "{error}");
}

#[test]
fn folder_without_weights_is_rejected_with_file_names() {
    let error = open(&tempfile::tempdir().unwrap()).unwrap_err().to_string();
    assert_eq!(error, "model folder has no model.safetensors or pytorch_model.bin");
}
