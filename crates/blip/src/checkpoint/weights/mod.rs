//! Weights of a checkpoint by their names in the state dict, for every supported file format.

pub(crate) mod tensor_names;
pub(crate) mod original_names;
pub(crate) mod pickle;
pub(crate) mod safetensors_file;
pub(crate) mod shard_index;

#[cfg(test)]
pub(crate) mod tests;

use std::{borrow::Cow, collections::HashMap, ops::Range, path::Path, sync::Arc};

use tch::{Device, Kind, Tensor};

use crate::{
    checkpoint::{
        files::{ModelFiles, WeightFile},
        weights::{
            original_names::Naming,
            safetensors_file::{HeaderEntry, read_header, read_range},
            shard_index::shard_names,
        },
    },
    error::LoadError,
};

const SAFETENSORS: &str = "model.safetensors";

/// Name of a single weight file and name of an index of several files, in order of preference.
const FORMATS: [(&str, &str); 2] =
    [(SAFETENSORS, "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")];

/// Shape, number format and location of a tensor in its file.
#[derive(Debug)]
pub(crate) struct TensorEntry {
    location: TensorLocation,
    pub(crate) shape: Vec<i64>,
    pub(crate) kind: Kind,
}

/// Location of a tensor's bytes.
#[derive(Debug)]
enum TensorLocation {
    /// A range of a safetensors file.
    Shard { shard: Arc<Shard>, range: Range<u64> },
    /// A tensor in a file of `torch.save`.
    Pickled { file: Arc<str>, tensor: pytorch_reader::Tensor },
}

/// A safetensors file with its name.
#[derive(Debug)]
struct Shard {
    name: String,
    file: WeightFile,
}

/// Tensors of a checkpoint by name. Their bytes stay in the files until a tensor is loaded.
#[derive(Debug, Default)]
pub struct Weights {
    pub(crate) entries: HashMap<String, TensorEntry>,
    /// Number formats of tensors that no model reads: integers, such as the buffers of old files,
    /// and formats of quantized models.
    pub(crate) unreadable: HashMap<String, String>,
}

impl Weights {
    /// Opens the weight file that `files` names. Otherwise opens `model.safetensors` or the shards
    /// in its index, or else `pytorch_model.bin` or its shards.
    ///
    /// # Errors
    /// [`LoadError`] if no weights exist or a file is invalid.
    pub(crate) fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        let mut weights = Self::default();
        if let Some(file) = files.weight_file_name() {
            return if weights.add(file, files)? { Ok(weights) } else { Err(LoadError::NoFile(file.into())) };
        }
        for (whole, index) in FORMATS {
            if weights.add(whole, files)? {
                return Ok(weights);
            }
            let Some(json) = files.read(index)? else { continue };
            for shard in shard_names(index, &json)? {
                if !weights.add(&shard, files)? {
                    return Err(LoadError::invalid(index, format!("listed shard {shard} does not exist")));
                }
            }
            return Ok(weights);
        }
        Err(LoadError::MissingFile("model.safetensors or pytorch_model.bin"))
    }

    /// Adds the tensors of `file`. Returns `false` if the file is missing.
    fn add(&mut self, file: &str, files: &ModelFiles) -> Result<bool, LoadError> {
        if file.ends_with(".safetensors") {
            let Some(weights) = files.weights(file)? else { return Ok(false) };
            self.add_safetensors(Shard { name: file.to_owned(), file: weights })?;
        } else {
            let Some(path) = files.weight_path(file)? else { return Ok(false) };
            self.add_pickled(file, &path)?;
        }
        Ok(true)
    }

    fn add_safetensors(&mut self, shard: Shard) -> Result<(), LoadError> {
        let tensors = read_header(&shard.file, &shard.name)?;
        let shard = Arc::new(shard);
        for HeaderEntry { name, shape, dtype, range } in tensors {
            match safetensors_file::kind_of(dtype) {
                Some(kind) => {
                    let location = TensorLocation::Shard { shard: Arc::clone(&shard), range };
                    self.entries.insert(name, TensorEntry { location, shape, kind });
                }
                None => drop(self.unreadable.insert(name, format!("{dtype:?}"))),
            }
        }
        Ok(())
    }

    fn add_pickled(&mut self, file: &str, path: &Path) -> Result<(), LoadError> {
        let tensors = pickle::open(path, file)?;
        let naming = Naming::detect(tensors.iter().map(|tensor| tensor.name.as_str()));
        let file: Arc<str> = file.into();
        for tensor in tensors {
            let Some(name) = naming.translate(&tensor.name).map(Cow::into_owned) else { continue };
            let Some(kind) = pickle::kind_of(tensor.dtype()) else {
                self.unreadable.insert(name, format!("{:?}", tensor.dtype()));
                continue;
            };
            let shape = tensor.shape().iter().map(|&size| size as i64).collect();
            let location = TensorLocation::Pickled { file: Arc::clone(&file), tensor };
            self.entries.insert(name, TensorEntry { location, shape, kind });
        }
        Ok(())
    }

    /// Returns the size of all tensors in their files, in bytes.
    pub fn bytes(&self) -> usize {
        self.entries.values().map(TensorEntry::bytes).sum()
    }

    /// Returns whether the files have a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name) || self.unreadable.contains_key(name)
    }

    /// Returns whether two tensors exist, can be read, and have equal bytes.
    pub(crate) fn equal(&self, one: &str, other: &str) -> bool {
        let read = |name| self.entries.get(name).and_then(|entry| entry.read().ok());
        match (read(one), read(other)) {
            (Some(one), Some(other)) => one == other,
            _ => false,
        }
    }

    /// Copies a tensor to `device` and converts it to `kind`.
    ///
    /// # Errors
    /// [`LoadError::MissingTensor`], [`LoadError::TensorFormat`] and [`LoadError::TensorShape`] if
    /// the files have no tensor of this name in a readable format and of this `shape`.
    /// [`LoadError::Read`] or [`LoadError::Torch`] if it cannot be read or copied.
    #[expect(clippy::disallowed_methods, reason = "a model that is being loaded has no other work")]
    pub(crate) fn load(
        &self,
        name: &str,
        shape: &[i64],
        device: Device,
        kind: Kind,
    ) -> Result<Tensor, LoadError> {
        let entry = self.entries.get(name).ok_or_else(|| self.missing(name, shape))?;
        if entry.shape != shape {
            return Err(LoadError::TensorShape {
                name: name.to_owned(),
                found: entry.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let tensor = Tensor::f_from_data_size(&entry.read()?, shape, entry.kind)?;
        Ok(tensor.f_to_device(device)?.f_to_kind(kind)?)
    }

    /// Returns why there is no tensor of this name.
    fn missing(&self, name: &str, shape: &[i64]) -> LoadError {
        let name = name.to_owned();
        match self.unreadable.get(&name) {
            Some(found) => LoadError::TensorFormat { name, found: found.clone() },
            None => LoadError::MissingTensor { name, expected: shape.to_vec() },
        }
    }
}

impl TensorEntry {
    /// Returns the bytes of a tensor.
    ///
    /// # Errors
    /// [`LoadError::Read`] if the file cannot be read.
    pub(crate) fn read(&self) -> Result<Cow<'_, [u8]>, LoadError> {
        match &self.location {
            TensorLocation::Shard { shard, range } => read_range(&shard.file, &shard.name, range.clone()),
            TensorLocation::Pickled { file, tensor } => match tensor.read() {
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(source) => Err(LoadError::Read { file: file.as_ref().to_owned(), source }),
            },
        }
    }

    /// Returns the size of the tensor in its file, in bytes.
    fn bytes(&self) -> usize {
        match &self.location {
            TensorLocation::Shard { range, .. } => {
                usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
            }
            TensorLocation::Pickled { tensor, .. } => tensor.byte_len(),
        }
    }
}
