//! Conversion of a checkpoint: from any format to a folder in Hugging Face's layout, with all
//! weights in one safetensors file.

pub(crate) mod writer;
pub(crate) mod error;

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use crate::{
    checkpoint::{
        files::{
            ModelFiles, OPTIONAL, PREPROCESSOR_FILES, PREPROCESSORS, REQUIRED, TOKENIZER_FILES, TOKENIZERS,
        },
        weights::Weights,
    },
    convert::error::{ConvertError, WEIGHTS},
    dtype::Dtype,
    error::LoadError,
};

/// A file of the output folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// Name of the file.
    pub name: String,
    /// Size of the file, in bytes.
    pub bytes: u64,
}

/// Writes the model of `files` as `dtype` to the folder `output`, and returns the written files.
///
/// The output becomes visible in one step when all files are complete. One tensor is in memory at a
/// time. With `replace`, an existing output is replaced if it has only files of a converted model.
///
/// - The weights of a head that is tied to the word embeddings are written once.
/// - Buffers are left out.
/// - The other files are copied without changes.
///
/// # Errors
/// [`ConvertError`] if a file is missing or invalid, the output exists, or a file cannot be
/// written.
pub fn convert(
    files: &ModelFiles,
    output: &Path,
    dtype: Dtype,
    replace: bool,
) -> Result<Vec<WrittenFile>, ConvertError> {
    let write = |path: &Path, source: io::Error| ConvertError::Write { path: path.to_owned(), source };
    if dtype == Dtype::Int8 {
        return Err(ConvertError::Dtype(dtype));
    }
    files.check()?;
    check_output(output, replace)?;
    let mut copies = Vec::new();
    for name in REQUIRED {
        copies.push((name, files.require(name)?));
    }
    for name in TOKENIZERS.into_iter().chain(PREPROCESSORS).chain(OPTIONAL) {
        copies.extend(files.read(name)?.map(|content| (name, content)));
    }
    for (needed, names) in [(PREPROCESSORS, PREPROCESSOR_FILES), (TOKENIZERS, TOKENIZER_FILES)] {
        if !copies.iter().any(|(name, _)| needed.contains(name)) {
            return Err(LoadError::MissingFile(names).into());
        }
    }
    let weights = Weights::open(files)?;

    let parent = match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|error| write(parent, error))?;
    // The temporary folder is in the file system of the output, so that one rename replaces the
    // output.
    let written = tempfile::Builder::new()
        .prefix(".blip-serve-convert-")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(|error| write(parent, error))?;
    weights.save(&written.path().join(WEIGHTS), dtype)?;
    for (name, content) in copies {
        let path = written.path().join(name);
        fs::write(&path, content).map_err(|error| write(&path, error))?;
    }
    let files = list_files(written.path()).map_err(|error| write(written.path(), error))?;
    move_into_place(written.path(), output).map_err(|error| write(output, error))?;
    Ok(files)
}

/// Checks that `output` is missing, empty or may be replaced.
fn check_output(output: &Path, replace: bool) -> Result<(), ConvertError> {
    let is_model_file = |file: &OsStr| {
        let needed = REQUIRED.into_iter().chain(TOKENIZERS).chain(PREPROCESSORS);
        let mut known = needed.chain(OPTIONAL).chain([WEIGHTS]);
        known.any(|name| file == name)
    };
    match fs::read_dir(output) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(ConvertError::Exists(output.to_owned()))
        }
        Err(source) => Err(ConvertError::Write { path: output.to_owned(), source }),
        Ok(entries) => {
            for entry in entries {
                let entry =
                    entry.map_err(|source| ConvertError::Write { path: output.to_owned(), source })?;
                if !replace {
                    return Err(ConvertError::Exists(output.to_owned()));
                }
                let (folder, file) = (output.to_owned(), entry.file_name());
                if !is_model_file(&file) {
                    let file = file.to_string_lossy().into_owned();
                    return Err(ConvertError::UnknownFile { folder, file });
                }
            }
            Ok(())
        }
    }
}

/// Returns the files in `folder`, ordered by name.
fn list_files(folder: &Path) -> io::Result<Vec<WrittenFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push(WrittenFile { name, bytes: entry.metadata()?.len() });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// Renames `written` to `output`. An existing output is first renamed and finally removed.
fn move_into_place(written: &Path, output: &Path) -> io::Result<()> {
    // The rename replaces a missing or an empty folder.
    match fs::rename(written, output) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            let mut aside = written.as_os_str().to_owned();
            aside.push(".old");
            fs::rename(output, &aside)?;
            if let Err(error) = fs::rename(written, output) {
                fs::rename(&aside, output)?;
                return Err(error);
            }
            fs::remove_dir_all(&aside)
        }
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::checkpoint::weights::tests::formats::{golden_with, in_every_pickle};

    fn golden(name: &str) -> ModelFiles {
        ModelFiles::Folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name))
    }

    fn output() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("models/blip");
        (folder, output)
    }

    /// Returns the converted weight file of `files`.
    fn converted(files: &ModelFiles, dtype: Dtype) -> Vec<u8> {
        let (_folder, output) = output();
        convert(files, &output, dtype, false).unwrap();
        fs::read(output.join(WEIGHTS)).unwrap()
    }

    fn names(safetensors: &[u8]) -> Vec<String> {
        let tensors = safetensors::SafeTensors::deserialize(safetensors).unwrap();
        let mut names: Vec<String> = tensors.names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    }

    #[test]
    fn every_format_converts_to_the_same_file() {
        let files = golden("vocab_txt");
        let (single, half) = (converted(&files, Dtype::F32), converted(&files, Dtype::F16));
        assert_eq!(names(&single), names(&fs::read(files.path(WEIGHTS).unwrap()).unwrap()));
        let [bin, sharded, original] = in_every_pickle();
        for (_folder, files) in [&bin, &original] {
            assert!(converted(files, Dtype::F32) == single, "{files:?}");
        }
        for (_folder, files) in [&bin, &sharded, &original] {
            assert!(converted(files, Dtype::F16) == half, "{files:?}");
        }
        // Conversion from f16 to bf16.
        let (brain, half) = (converted(&sharded.1, Dtype::Bf16), half);
        let read = |bytes| safetensors::SafeTensors::deserialize(bytes).unwrap();
        let (brain, half) = (read(&brain), read(&half));
        assert_eq!(brain.len(), half.len());
        for (name, tensor) in brain.tensors() {
            assert_eq!(tensor.dtype(), safetensors::Dtype::BF16, "{name}");
            assert_eq!(tensor.shape(), half.tensor(&name).unwrap().shape(), "{name}");
        }
    }

    #[test]
    fn output_has_exactly_the_files_of_a_model() {
        let (parent, output) = output();
        let written = convert(&golden("untied_head"), &output, Dtype::F16, false).unwrap();
        let names: Vec<&str> = written.iter().map(|file| file.name.as_str()).collect();
        let expected = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(names, expected);
        for WrittenFile { name, bytes } in &written {
            assert_eq!(fs::metadata(output.join(name)).unwrap().len(), *bytes, "{name}");
        }
        let beside: Vec<_> = fs::read_dir(output.parent().unwrap()).unwrap().collect();
        assert_eq!(beside.len(), 1, "{beside:?} in {parent:?}");
        let mode = fs::metadata(&output).unwrap().permissions().mode();
        assert_eq!(mode & 0o500, 0o500);
        crate::Checkpoint::open(&ModelFiles::Folder(output)).unwrap();
    }

    #[test]
    fn tied_head_is_written_once_and_untied_head_is_unchanged() {
        let head = |name: &str| {
            let names = names(&converted(&golden(name), Dtype::F32));
            names.iter().filter(|name| name.contains(".predictions.decoder.")).count()
        };
        assert_eq!((head("duplicate_head"), head("untied_head")), (0, 2));
    }

    #[test]
    fn existing_output_is_replaced_only_on_request_and_if_a_model() {
        let (_folder, output) = output();
        let error = convert(&golden("vocab_txt"), &output, Dtype::Int8, true).unwrap_err().to_string();
        assert_eq!(error, "dtype int8 is not a format of files, expected f32, f16 or bf16");
        let convert_again = |replace| convert(&golden("vocab_txt"), &output, Dtype::F16, replace);
        convert_again(false).unwrap();
        fs::write(output.join("config.json"), "old").unwrap();
        let error = convert_again(false).unwrap_err().to_string();
        assert_eq!(error, format!("output {} exists", output.display()));
        convert_again(true).unwrap();
        assert!(fs::read(output.join("config.json")).unwrap() != b"old");
        fs::write(output.join("thesis.txt"), "mine").unwrap();
        let error = convert_again(true).unwrap_err().to_string();
        assert!(error.ends_with("has a file that is not part of a converted model: thesis.txt"), "{error}");
        assert_eq!(fs::read(output.join("thesis.txt")).unwrap(), b"mine");
        assert_eq!(fs::read_dir(output.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn folder_can_be_converted_in_place() {
        let folder = golden_with(&golden("vocab_txt").path("").unwrap(), &[WEIGHTS]);
        for name in ["expected.json", "expected.safetensors", "generation.json", "image0.png", "image1.png"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        let files = ModelFiles::Folder(folder.path().to_owned());
        let expected = converted(&files, Dtype::Bf16);
        convert(&files, folder.path(), Dtype::Bf16, true).unwrap();
        assert!(fs::read(folder.path().join(WEIGHTS)).unwrap() == expected);
    }

    #[test]
    fn values_beyond_f16_are_rejected_without_output() {
        let data: Vec<u8> = [1.0f32, 70_000.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &data).unwrap();
        let folder = golden_with(Path::new(""), &[]);
        let weights = safetensors::serialize([("text_proj.bias", view)], None).unwrap();
        fs::write(folder.path().join(WEIGHTS), weights).unwrap();
        let files = ModelFiles::Folder(folder.path().to_owned());
        let (_parent, output) = output();
        let error = convert(&files, &output, Dtype::F16, false).unwrap_err().to_string();
        assert_eq!(error, "tensor text_proj.bias has values too large for f16");
        assert_eq!(fs::read_dir(output.parent().unwrap()).unwrap().count(), 0);
        assert!(!converted(&files, Dtype::Bf16).is_empty());
    }
}
