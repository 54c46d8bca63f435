//! Writes weights to a safetensors file, with one tensor in memory at a time.

use std::{borrow::Cow, cell::OnceCell, collections::HashMap, fs::File, path::Path};

use safetensors::{Dtype as FileDtype, View, serialize_to_file};
use tch::Tensor;

use crate::{
    checkpoint::weights::{
        TensorEntry, Weights,
        tensor_names::{HEAD, WORDS},
    },
    convert::error::ConvertError,
    dtype::Dtype,
    error::LoadError,
};

/// A tensor that is read and converted when the safetensors library writes it.
struct DeferredTensor<'a> {
    name: &'a str,
    entry: &'a TensorEntry,
    shape: Vec<usize>,
    dtype: Dtype,
    /// The first error, because the interface of the library has no errors.
    failure: &'a OnceCell<ConvertError>,
}

impl Weights {
    /// Writes all tensors to `path` as `dtype`, except tied tensors that equal their counterpart.
    ///
    /// # Errors
    /// [`ConvertError`]. The file is then incomplete.
    pub(crate) fn save(&self, path: &Path, dtype: Dtype) -> Result<(), ConvertError> {
        self.check_formats()?;
        let failure = OnceCell::new();
        let tensors = self.entries.iter().filter(|(name, _)| !self.is_tied(name)).map(|(name, entry)| {
            let shape = entry.shape.iter().map(|&size| size as usize).collect();
            (name, DeferredTensor { name, entry, shape, dtype, failure: &failure })
        });
        // The reference recognizes a file of torch tensors by this entry.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        serialize_to_file(tensors, Some(metadata), path)?;
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(File::open(path)?.sync_all()?),
        }
    }

    /// Checks that every weight can be read. Integer buffers, which old files have, are left out.
    fn check_formats(&self) -> Result<(), LoadError> {
        let is_weight = |(name, format): &(&String, &String)| {
            format.starts_with('F') || name.ends_with(".weight") || name.ends_with(".bias")
        };
        let Some((name, found)) = self.unreadable.iter().find(is_weight) else { return Ok(()) };
        Err(LoadError::TensorFormat { name: name.clone(), found: found.clone() })
    }

    /// Returns whether the tensor is a copy of the one that it is tied to. The reference leaves
    /// such tensors out, too.
    fn is_tied(&self, name: &str) -> bool {
        match name.strip_prefix(HEAD) {
            Some(".decoder.weight") => self.equal(name, WORDS),
            Some(".decoder.bias") => self.equal(name, &format!("{HEAD}.bias")),
            _ => false,
        }
    }
}

impl DeferredTensor<'_> {
    fn convert(&self) -> Result<Vec<u8>, ConvertError> {
        let bytes = self.entry.read()?;
        if self.entry.kind == self.dtype.kind() {
            return Ok(bytes.into_owned());
        }
        let tensor = Tensor::f_from_data_size(&bytes, &self.entry.shape, self.entry.kind)?;
        if !fits(&tensor, self.dtype)? {
            return Err(ConvertError::TooLarge { tensor: self.name.to_owned(), dtype: self.dtype });
        }
        let converted = tensor.f_to_kind(self.dtype.kind())?;
        let mut bytes = vec![0; self.data_len()];
        converted.f_copy_data_u8(&mut bytes, converted.numel())?;
        Ok(bytes)
    }
}

/// Returns whether no value of the tensor is infinite as `dtype`. NaN is allowed.
fn fits(tensor: &Tensor, dtype: Dtype) -> Result<bool, tch::TchError> {
    if tensor.numel() == 0 {
        return Ok(true);
    }
    let (smallest, largest) = tensor.f_aminmax(None::<i64>, false)?;
    for extreme in [smallest, largest] {
        let converted = extreme.f_to_kind(dtype.kind())?;
        if converted.f_double_value(&[])?.is_infinite() {
            return Ok(false);
        }
    }
    Ok(true)
}

impl View for DeferredTensor<'_> {
    fn dtype(&self) -> FileDtype {
        match self.dtype {
            Dtype::F32 | Dtype::Int8 => FileDtype::F32,
            Dtype::F16 => FileDtype::F16,
            Dtype::Bf16 => FileDtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if self.failure.get().is_some() {
            return Cow::Borrowed(&[]);
        }
        let bytes = self.convert().unwrap_or_else(|error| {
            // The cell is empty, because `data` returns early otherwise.
            let _ = self.failure.set(error);
            Vec::new()
        });
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.kind().elt_size_in_bytes()
    }
}
