//! Tests of reading weights: lookup by name, file formats, malformed files.

pub(crate) mod formats;
mod malformed;

use safetensors::{
    Dtype as FileDtype,
    tensor::{TensorView, serialize},
};

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
    assert!(!open(&folder).unwrap().entries.contains_key("position_ids"));
}

#[test]
fn tensor_of_other_format_is_named_with_its_format() {
    let weights = [("a.weight", FileDtype::F8_E4M3, vec![2], [0; 2].as_slice())];
    let folder = files(&weights);
    let weights = open(&folder).unwrap();
    let scope = WeightPath::root(&weights, Device::Cpu, Kind::Float).at("a");
    let message = "tensor a.weight has number format F8_E4M3, expected F64, F32, F16 or BF16";
    assert_eq!(scope.tensor("weight", &[2]).unwrap_err().to_string(), message);
    let output = folder.path().join("converted");
    assert_eq!(weights.save(&output, crate::Dtype::F16).unwrap_err().to_string(), message);
}

#[test]
fn file_that_is_truncated_or_written_while_loaded_is_an_error() {
    for change in [truncate, overwrite] {
        let folder = files(&[("a", FileDtype::F32, vec![2], &[0; 8])]);
        let path = folder.path().join(SAFETENSORS);
        set_modified(&path, 1_000_000_000);
        let weights = open(&folder).unwrap();
        change(&path);
        let error = weights.load("a", &[2], Device::Cpu, Kind::Float).unwrap_err().to_string();
        assert_eq!(error, "cannot read model.safetensors: the file changed while it was in use");
    }
}

fn truncate(path: &Path) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(20).unwrap();
}

fn overwrite(path: &Path) {
    let length = std::fs::metadata(path).unwrap().len();
    std::fs::write(path, vec![0; length as usize]).unwrap();
}

/// Sets the time of the last change. The times of a file system are coarse.
fn set_modified(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn header_longer_than_its_file_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let message = |bytes: &[u8]| {
        std::fs::write(folder.path().join(SAFETENSORS), bytes).unwrap();
        open(&folder).unwrap_err().to_string()
    };
    let invalid = |reason: &str| format!("model.safetensors is not valid: {reason}");
    assert_eq!(message(b"four"), invalid("file has 4 bytes, expected at least 8"));
    let header = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    assert_eq!(message(&header(3)), invalid("header has 3 bytes, file only 10"));
    assert_eq!(
        message(&header(u64::MAX)),
        invalid("header has 18446744073709551615 bytes, limit is 16777216")
    );
    assert!(message(&header(1)).starts_with(&invalid("header: ")));
    let longer = [&header(2)[..], b"more"].concat();
    assert_eq!(message(&longer), invalid("file has 14 bytes, header states 10"));
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
