//! Tests that every file format gives equal tensors. `tests/reference/generate/pickles.py` writes
//! the files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tch::{Device, Kind};

use crate::{Checkpoint, checkpoint::weights::*, layers::weight_path::WeightPath};

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
const HEAD: &str = "text_decoder.cls.predictions";

fn golden() -> PathBuf {
    Path::new(TESTS).join("goldens/vocab_txt")
}

fn pickles() -> PathBuf {
    Path::new(TESTS).join("pickles")
}

/// Returns a folder with the golden checkpoint's files except its weights, and with the files
/// `names` of the folder `weights`.
pub(crate) fn golden_with(weights: &Path, names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden()).unwrap().map(Result::unwrap) {
        if entry.file_name() != SAFETENSORS {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    for name in names {
        fs::copy(weights.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Returns the golden checkpoint with its weights in one pickle, in several pickles, and in a file
/// of the original repository.
pub(crate) fn in_every_pickle() -> [(tempfile::TempDir, ModelFiles); 3] {
    let sharded = fs::read_dir(pickles().join("sharded")).unwrap();
    let shards: Vec<String> =
        sharded.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let shards: Vec<&str> = shards.iter().map(String::as_str).collect();
    let with_folder = |folder: tempfile::TempDir| {
        let files = ModelFiles::Folder(folder.path().to_owned());
        (folder, files)
    };
    let original = golden_with(&pickles(), &["original.pth"]);
    let file = ModelFiles::File(original.path().join("original.pth"));
    [
        with_folder(golden_with(&pickles(), &["pytorch_model.bin"])),
        with_folder(golden_with(&pickles().join("sharded"), &shards)),
        (original, file),
    ]
}

#[test]
fn pickled_tensors_equal_safetensors_bit_for_bit() {
    let expected = Weights::open(&ModelFiles::Folder(golden())).unwrap();
    for (_folder, files) in in_every_pickle() {
        let checkpoint = Checkpoint::open(&files).unwrap();
        let weights = checkpoint.weights();
        for (name, entry) in &expected.entries {
            let load = |weights: &Weights, kind| weights.load(name, &entry.shape, Device::Cpu, kind).unwrap();
            let kind = weights.entries[name].kind;
            assert_eq!(load(weights, kind), load(&expected, kind), "{name} of {files:?}");
        }
        let more: Vec<&str> = weights
            .entries
            .keys()
            .map(String::as_str)
            .filter(|name| !expected.contains(name) && !name.starts_with(HEAD))
            .collect();
        assert!(more.is_empty(), "{more:?} of {files:?}");
        assert_eq!(weights.bytes(), weights.entries.values().map(TensorEntry::bytes).sum::<usize>());
    }
}

#[test]
fn test_files_differ_in_dtype_and_tied_head() {
    let [bin, sharded, original] = in_every_pickle().map(|(_folder, files)| Weights::open(&files).unwrap());
    let kind = |weights: &Weights| weights.entries["vision_model.embeddings.class_embedding"].kind;
    assert_eq!([&bin, &sharded, &original].map(kind), [Kind::Float, Kind::Half, Kind::Float]);
    let head = format!("{HEAD}.decoder.weight");
    assert!(bin.contains(&head) && original.contains(&head) && !sharded.contains(&head));
    assert!(bin.equal(&head, "text_decoder.bert.embeddings.word_embeddings.weight"));
    assert!(!bin.equal(&head, "text_encoder.embeddings.word_embeddings.weight"));
}

#[test]
fn safetensors_are_preferred() {
    let folder = golden_with(&golden(), &[SAFETENSORS]);
    fs::write(folder.path().join("pytorch_model.bin"), "no checkpoint").unwrap();
    let weights = Weights::open(&ModelFiles::Folder(folder.path().to_owned())).unwrap();
    assert!(weights.entries.values().all(|entry| matches!(entry.location, TensorLocation::Shard { .. })));
}

#[test]
fn missing_shard_is_named() {
    let folder = golden_with(&pickles().join("sharded"), &["pytorch_model.bin.index.json"]);
    let error = Weights::open(&ModelFiles::Folder(folder.path().to_owned())).unwrap_err().to_string();
    assert!(error.ends_with("listed shard pytorch_model-00001-of-00003.bin does not exist"), "{error}");
}

#[test]
fn position_table_of_other_size_is_rejected_with_shapes() {
    let weights = Weights::open(&ModelFiles::File(pickles().join("original.pth"))).unwrap();
    let scope = WeightPath::root(&weights, Device::Cpu, Kind::Float).at("vision_model.embeddings");
    let error = scope.tensor("position_embedding", &[1, 50, 24]).unwrap_err().to_string();
    assert_eq!(
        error,
        "tensor vision_model.embeddings.position_embedding has shape [1, 37, 24], config.json requires [1, 50, 24]"
    );
}
