//! Weights of a checkpoint by their names in the state dict, for every supported file format.

pub(crate) mod tensor_names;
pub(crate) mod original_names;
pub(crate) mod pickle;
pub(crate) mod shard_index;

#[cfg(test)]
pub(crate) mod tests;

use std::{borrow::Cow, collections::HashMap, ops::Range, path::Path, sync::Arc};

use safetensors::{Dtype as FileDtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::{
    checkpoint::{
        files::{ModelFiles, WeightBytes},
        weights::{original_names::Naming, shard_index::shard_names},
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
    Shard { shard: usize, range: Range<usize> },
    /// A tensor in a file of `torch.save`.
    Pickled { file: Arc<str>, tensor: pytorch_reader::Tensor },
}

/// Tensors of a checkpoint by name. Their bytes stay in the files until a tensor is loaded.
#[derive(Debug, Default)]
pub struct Weights {
    shards: Vec<WeightBytes>,
    pub(crate) entries: HashMap<String, TensorEntry>,
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
            let Some(bytes) = files.weights(file)? else { return Ok(false) };
            self.add_safetensors(file, bytes)?;
        } else {
            let Some(path) = files.path(file).filter(|path| path.exists()) else { return Ok(false) };
            self.add_pickled(file, &path)?;
        }
        Ok(true)
    }

    fn add_safetensors(&mut self, file: &str, bytes: WeightBytes) -> Result<(), LoadError> {
        let data = bytes.as_slice();
        let start = data.as_ptr() as usize;
        let tensors = SafeTensors::deserialize(data).map_err(|error| LoadError::invalid(file, error))?;
        let shard = self.shards.len();
        for (name, view) in tensors.iter() {
            // The model reads no integer buffers, which old files have (`position_ids`).
            let Some(kind) = kind_of(view.dtype()) else { continue };
            let offset = view.data().as_ptr() as usize - start;
            let location = TensorLocation::Shard { shard, range: offset..offset + view.data().len() };
            let shape = view.shape().iter().map(|&size| size as i64).collect();
            self.entries.insert(name.to_owned(), TensorEntry { location, shape, kind });
        }
        self.shards.push(bytes);
        Ok(())
    }

    fn add_pickled(&mut self, file: &str, path: &Path) -> Result<(), LoadError> {
        let tensors = pickle::open(path, file)?;
        let naming = Naming::detect(tensors.iter().map(|tensor| tensor.name.as_str()));
        let file: Arc<str> = file.into();
        for tensor in tensors {
            let Some(kind) = pickle::kind_of(tensor.dtype()) else { continue };
            let Some(name) = naming.translate(&tensor.name).map(Cow::into_owned) else { continue };
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
        self.entries.contains_key(name)
    }

    /// Returns whether two tensors exist, can be read, and have equal bytes.
    pub(crate) fn equal(&self, one: &str, other: &str) -> bool {
        let read = |name| self.entries.get(name).and_then(|entry| self.read(entry).ok());
        match (read(one), read(other)) {
            (Some(one), Some(other)) => one == other,
            _ => false,
        }
    }

    /// Returns the bytes of a tensor.
    ///
    /// # Errors
    /// [`LoadError::Read`] if the file cannot be read.
    pub(crate) fn read(&self, entry: &TensorEntry) -> Result<Cow<'_, [u8]>, LoadError> {
        match &entry.location {
            TensorLocation::Shard { shard, range } => {
                let bytes = self.shards.get(*shard).and_then(|shard| shard.as_slice().get(range.clone()));
                Ok(Cow::Borrowed(bytes.unwrap_or_default()))
            }
            TensorLocation::Pickled { file, tensor } => match tensor.read() {
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(source) => Err(LoadError::Read { file: file.as_ref().to_owned(), source }),
            },
        }
    }

    /// Releases the memory of a tensor that the caller has copied.
    pub(crate) fn release(&self, entry: &TensorEntry) {
        if let TensorLocation::Shard { shard, range } = &entry.location
            && let Some(shard) = self.shards.get(*shard)
        {
            shard.release(range.clone());
        }
    }

    /// Copies a tensor to `device` and converts it to `kind`.
    ///
    /// # Errors
    /// [`LoadError::MissingTensor`] and [`LoadError::TensorShape`] if the files have no tensor of
    /// this name and `shape`. [`LoadError::Read`] or [`LoadError::Torch`] if it cannot be read or
    /// copied.
    #[expect(clippy::disallowed_methods, reason = "a model that is being loaded has no other work")]
    pub(crate) fn load(
        &self,
        name: &str,
        shape: &[i64],
        device: Device,
        kind: Kind,
    ) -> Result<Tensor, LoadError> {
        let missing = || LoadError::MissingTensor { name: name.to_owned(), expected: shape.to_vec() };
        let entry = self.entries.get(name).ok_or_else(missing)?;
        if entry.shape != shape {
            return Err(LoadError::TensorShape {
                name: name.to_owned(),
                found: entry.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let tensor = Tensor::f_from_data_size(&self.read(entry)?, shape, entry.kind)?;
        self.release(entry);
        Ok(tensor.f_to_device(device)?.f_to_kind(kind)?)
    }
}

impl TensorEntry {
    /// Returns the size of the tensor in its file, in bytes.
    fn bytes(&self) -> usize {
        match &self.location {
            TensorLocation::Shard { range, .. } => range.len(),
            TensorLocation::Pickled { tensor, .. } => tensor.byte_len(),
        }
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
