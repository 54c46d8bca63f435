//! Weights to a safetensors file, one tensor in memory at a time.

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
};

/// A tensor on its way into the file.
struct Converted<'a> {
    weights: &'a Weights,
    name: &'a str,
    entry: &'a TensorEntry,
    shape: Vec<usize>,
    dtype: Dtype,
    /// The first thing that went wrong: the library that writes the file takes no errors.
    failure: &'a OnceCell<ConvertError>,
}

impl Weights {
    /// Writes all tensors to `path` as `dtype`, but those that are tied and equal to what they are tied to.
    ///
    /// # Errors
    /// [`ConvertError`]; the file is of no use then.
    pub(crate) fn save(&self, path: &Path, dtype: Dtype) -> Result<(), ConvertError> {
        let failure = OnceCell::new();
        let tensors = self.entries.iter().filter(|(name, _)| !self.is_tied(name)).map(|(name, entry)| {
            let shape = entry.shape.iter().map(|&size| size as usize).collect();
            (name, Converted { weights: self, name, entry, shape, dtype, failure: &failure })
        });
        // By this the reference tells a file of torch's tensors.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        serialize_to_file(tensors, Some(metadata), path)?;
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(File::open(path)?.sync_all()?),
        }
    }

    /// Whether the tensor is a copy of the one that it is tied to, as the reference leaves it out, too.
    fn is_tied(&self, name: &str) -> bool {
        match name.strip_prefix(HEAD) {
            Some(".decoder.weight") => self.equal(name, WORDS),
            Some(".decoder.bias") => self.equal(name, &format!("{HEAD}.bias")),
            _ => false,
        }
    }
}

impl Converted<'_> {
    fn convert(&self) -> Result<Vec<u8>, ConvertError> {
        let bytes = self.weights.read(self.entry)?;
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

/// Whether no number of the tensor becomes an infinity as `dtype`. What is no number stays none.
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

impl View for Converted<'_> {
    fn dtype(&self) -> FileDtype {
        match self.dtype {
            Dtype::F32 => FileDtype::F32,
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
            // It is empty: that was asked above.
            let _ = self.failure.set(error);
            Vec::new()
        });
        self.weights.release(self.entry);
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.kind().elt_size_in_bytes()
    }
}
