//! Compares models at other image sizes than that of their checkpoint with `transformers` 5.17 and
//! `interpolate_pos_encoding=True`.
//!
//! `tests/reference/generate/goldens_image_sizes.py` writes the golden file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tch::Device;

use crate::{
    Checkpoint, CheckpointOptions, Dtype, ModelFiles, RowInput, RowTask,
    model::Model,
    options::LoadOptions,
    tests::golden_files::{RowCollector, image_inputs, pixels, tensor},
};

fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn checkpoint_folder() -> PathBuf {
    tests_folder().join("goldens/thirty_by_six")
}

/// Asserts that features and answer of `checkpoint` equal those of the reference at `size`.
fn assert_equals_reference(checkpoint: &Checkpoint, size: u32) {
    assert_eq!(checkpoint.config().vision.image_size, i64::from(size));
    assert_eq!(checkpoint.preprocessor().height(), size as usize);
    assert_eq!(checkpoint.preprocessor().width(), size as usize);
    let file = fs::read(tests_folder().join("image_sizes/thirty_by_six.safetensors")).unwrap();
    let expected = |name: &str| tensor(&file, &format!("size{size}.{name}"));
    let options = LoadOptions::for_device(Device::Cpu);
    let mut model = Model::load(checkpoint, Device::Cpu, Dtype::F32, options).unwrap();

    let image = pixels(&expected("pixels"));
    let (features, embeds) = (model.features(&[&image]).squeeze_dim(0), expected("image_embeds"));
    assert_eq!(features.size(), embeds.size());
    let error = (features - &embeds).abs().max().double_value(&[]) / embeds.abs().max().double_value(&[]);
    assert!(error < 1e-4, "size {size}: {error:e}");

    let question = Vec::<i64>::try_from(expected("input_ids")).unwrap();
    let generated = Vec::<i64>::try_from(expected("generated_ids")).unwrap();
    let row = RowInput { image: Some(0), token_ids: &question, task: &RowTask::GREEDY };
    let mut rows = RowCollector::for_rows(1);
    model.run(&image_inputs(&[image]), &[row], &mut rows).unwrap();
    assert_eq!(rows.sequence(0).token_ids, generated[1..], "size {size}");
}

fn open(folder: &Path, image_size: Option<u32>) -> Result<Checkpoint, crate::LoadError> {
    let options = CheckpointOptions { image_size, ..CheckpointOptions::default() };
    Checkpoint::open_with(&ModelFiles::Folder(folder.to_owned()), options)
}

#[test]
fn requested_size_interpolates_position_embeddings() {
    for size in [18, 42] {
        assert_equals_reference(&open(&checkpoint_folder(), Some(size)).unwrap(), size);
    }
}

#[test]
fn configured_size_interpolates_a_table_of_another_size() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(checkpoint_folder().join(file), folder.path().join(file)).unwrap();
    }
    for (file, old, new) in [
        ("config.json", "\"image_size\": 30", "\"image_size\": 42"),
        ("preprocessor_config.json", "\"height\": 30", "\"height\": 42"),
        ("preprocessor_config.json", "\"width\": 30", "\"width\": 42"),
    ] {
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{text}");
        fs::write(&path, text.replace(old, new)).unwrap();
    }
    assert_equals_reference(&open(folder.path(), None).unwrap(), 42);
    // A requested size overrides the configuration. At the trained size nothing is interpolated.
    let checkpoint = open(folder.path(), Some(30)).unwrap();
    let model = Model::load(&checkpoint, Device::Cpu, Dtype::F32, LoadOptions::for_device(Device::Cpu));
    assert_eq!(model.unwrap().config().vision.tokens(), 26);
}

#[test]
fn size_that_is_no_multiple_of_the_patch_is_rejected() {
    for size in [0, 32, 6 * 683] {
        let error = open(&checkpoint_folder(), Some(size)).unwrap_err().to_string();
        let expected =
            format!("image size is {size}, expected a multiple of the checkpoint's patch size 6, up to 4096");
        assert_eq!(error, expected);
    }
}
