//! Weights by their state-dict names, out of one safetensors file or a sharded set.

use std::{borrow::Cow, collections::HashMap, fmt::Display, ops::Range};

use safetensors::{Dtype as FileDtype, SafeTensors};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::{
    error::LoadError,
    files::{ModelFiles, WeightBytes},
};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Where a tensor lies.
#[derive(Debug)]
struct Entry {
    shard: usize,
    range: Range<usize>,
    shape: Vec<i64>,
    kind: Kind,
}

/// All tensors of a checkpoint, still in their files.
#[derive(Debug)]
pub struct Weights {
    shards: Vec<WeightBytes>,
    entries: HashMap<String, Entry>,
}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// [`LoadError`] if neither is there or a file is broken.
    pub(crate) fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        let mut weights = Self { shards: Vec::new(), entries: HashMap::new() };
        if let Some(bytes) = files.weights(SINGLE)? {
            weights.add_shard(SINGLE, bytes)?;
            return Ok(weights);
        }
        let index = files.read(INDEX)?.ok_or(LoadError::MissingFile(SINGLE))?;
        for name in shard_names(&index)? {
            let bytes = files.weights(&name)?;
            let bytes = bytes
                .ok_or_else(|| LoadError::invalid(INDEX, format!("it names {name}, which is not there")))?;
            weights.add_shard(&name, bytes)?;
        }
        Ok(weights)
    }

    fn add_shard(&mut self, file: &str, bytes: WeightBytes) -> Result<(), LoadError> {
        let data = bytes.as_slice();
        let start = data.as_ptr() as usize;
        let tensors = SafeTensors::deserialize(data).map_err(|error| LoadError::invalid(file, error))?;
        let shard = self.shards.len();
        for (name, view) in tensors.iter() {
            // Integer buffers of old files (`position_ids`) are nothing that the model reads.
            let Some(kind) = kind_of(view.dtype()) else { continue };
            let offset = view.data().as_ptr() as usize - start;
            let range = offset..offset + view.data().len();
            let shape = view.shape().iter().map(|&size| size as i64).collect();
            self.entries.insert(name.to_owned(), Entry { shard, range, shape, kind });
        }
        self.shards.push(bytes);
        Ok(())
    }

    /// Size of all tensors in their files, in bytes.
    pub fn bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.range.len()).sum()
    }

    /// Whether the files hold a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether two tensors are equal, byte for byte.
    pub(crate) fn equal(&self, one: &str, other: &str) -> bool {
        match (self.raw(one), self.raw(other)) {
            (Some(one), Some(other)) => one == other,
            _ => false,
        }
    }

    fn raw(&self, name: &str) -> Option<&[u8]> {
        let entry = self.entries.get(name)?;
        self.shards.get(entry.shard)?.as_slice().get(entry.range.clone())
    }

    /// Copies a tensor to `device` as `kind`.
    fn load(&self, name: &str, shape: &[i64], device: Device, kind: Kind) -> Result<Tensor, LoadError> {
        let missing = || LoadError::MissingTensor { name: name.to_owned(), expected: shape.to_vec() };
        let entry = self.entries.get(name).ok_or_else(missing)?;
        if entry.shape != shape {
            return Err(LoadError::TensorShape {
                name: name.to_owned(),
                found: entry.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let bytes = self.raw(name).ok_or_else(missing)?;
        let tensor = Tensor::f_from_data_size(bytes, shape, entry.kind)?;
        if let Some(shard) = self.shards.get(entry.shard) {
            shard.release(entry.range.clone());
        }
        Ok(tensor.f_to_device(device)?.f_to_kind(kind)?)
    }
}

fn kind_of(dtype: FileDtype) -> Option<Kind> {
    match dtype {
        FileDtype::F64 => Some(Kind::Double),
        FileDtype::F32 => Some(Kind::Float),
        FileDtype::F16 => Some(Kind::Half),
        FileDtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

/// The distinct shard names of an index, refusing any that would leave the folder.
fn shard_names(index: &[u8]) -> Result<Vec<String>, LoadError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|error| LoadError::invalid(INDEX, error))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    match names.iter().find(|name| name.contains(['/', '\\'])) {
        Some(name) => Err(LoadError::invalid(INDEX, format!("shard {name:?} is not a plain file name"))),
        None => Ok(names),
    }
}

/// A place in the tree of names, with the device and kind that tensors are loaded to.
#[derive(Debug, Clone)]
pub(crate) struct Scope<'a> {
    weights: &'a Weights,
    prefix: Cow<'a, str>,
    device: Device,
    kind: Kind,
}

impl<'a> Scope<'a> {
    pub(crate) fn root(weights: &'a Weights, device: Device, kind: Kind) -> Self {
        Self { weights, prefix: Cow::Borrowed(""), device, kind }
    }

    /// The scope below `name`.
    pub(crate) fn at(&self, name: impl Display) -> Self {
        Self { prefix: Cow::Owned(self.name(name)), ..self.clone() }
    }

    fn name(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// Loads `name` below this scope.
    pub(crate) fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, LoadError> {
        self.weights.load(&self.name(name), shape, self.device, self.kind)
    }

    /// Loads the first of `names`, full names from the root, that the files hold.
    pub(crate) fn first_of(&self, names: [&str; 2], shape: &[i64]) -> Result<Tensor, LoadError> {
        let [first, second] = names;
        let name = if self.weights.contains(first) { first } else { second };
        self.weights.load(name, shape, self.device, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{TensorView, serialize};

    use super::*;

    fn files(tensors: &[(&str, FileDtype, Vec<usize>, &[u8])]) -> tempfile::TempDir {
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SINGLE), serialize(views, None).unwrap()).unwrap();
        folder
    }

    fn open(folder: &tempfile::TempDir) -> Result<Weights, LoadError> {
        Weights::open(&ModelFiles::Folder(folder.path().to_owned()))
    }

    #[test]
    fn a_tensor_is_loaded_by_name_and_converted() {
        let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let folder = files(&[("a.weight", FileDtype::F32, vec![2], &data)]);
        let weights = open(&folder).unwrap();
        let scope = Scope::root(&weights, Device::Cpu, Kind::Half).at("a");
        let tensor = scope.tensor("weight", &[2]).unwrap();
        assert_eq!(tensor.kind(), Kind::Half);
        assert_eq!(Vec::<f32>::try_from(tensor.to_kind(Kind::Float)).unwrap(), [1.5, -2.0]);
    }

    #[test]
    fn a_missing_and_a_misshapen_tensor_are_named_with_their_shapes() {
        let folder = files(&[("a.weight", FileDtype::F32, vec![2], &[0; 8])]);
        let weights = open(&folder).unwrap();
        let scope = Scope::root(&weights, Device::Cpu, Kind::Float).at("a");
        let error = scope.tensor("weight", &[3]).unwrap_err().to_string();
        assert_eq!(error, "tensor a.weight has shape [2], config.json calls for [3]");
        let error = scope.tensor("bias", &[3]).unwrap_err().to_string();
        assert_eq!(error, "weights have no tensor a.bias, expected with shape [3]");
    }

    #[test]
    fn integer_buffers_are_ignored() {
        let folder = files(&[("position_ids", FileDtype::I64, vec![1], &[0; 8])]);
        assert!(!open(&folder).unwrap().contains("position_ids"));
    }

    #[test]
    fn a_shard_outside_the_folder_is_refused() {
        let error = shard_names(br#"{"weight_map": {"a": "../secret"}}"#).unwrap_err().to_string();
        assert!(error.contains("../secret"), "{error}");
    }

    #[test]
    fn truncated_weights_are_refused_with_the_file_named() {
        let folder = files(&[("a", FileDtype::F32, vec![2], &[0; 8])]);
        let path = folder.path().join(SINGLE);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let error = open(&folder).unwrap_err().to_string();
        assert!(error.starts_with("model.safetensors is not valid"), "{error}");
    }
}
