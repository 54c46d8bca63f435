//! Images of another size than a checkpoint was trained at, against `transformers` 5.17 with
//! `interpolate_pos_encoding=True` (`tools/goldens_image_sizes.py`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use tch::Device;

use crate::{
    Checkpoint, CheckpointOptions, Dtype, ModelFiles, RowInput, RowTask,
    model::Model,
    options::LoadOptions,
    tests::golden_files::{Collected, inputs, pixels, tensor},
};

fn tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn trained() -> PathBuf {
    tests().join("goldens/thirty_by_six")
}

/// What the reference computed at `size`, of this checkpoint.
fn assert_equals_the_reference(checkpoint: &Checkpoint, size: u32) {
    assert_eq!(checkpoint.config().vision.image_size, i64::from(size));
    assert_eq!(checkpoint.preprocessor().height(), size as usize);
    assert_eq!(checkpoint.preprocessor().width(), size as usize);
    let file = fs::read(tests().join("image_sizes/thirty_by_six.safetensors")).unwrap();
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
    let mut rows = Collected::for_rows(1);
    model.run(&inputs(&[image]), &[row], &mut rows).unwrap();
    assert_eq!(rows.sequence(0).token_ids, generated[1..], "size {size}");
}

fn open(folder: &Path, image_size: Option<u32>) -> Result<Checkpoint, crate::LoadError> {
    let options = CheckpointOptions { image_size, ..CheckpointOptions::default() };
    Checkpoint::open_with(&ModelFiles::Folder(folder.to_owned()), options)
}

#[test]
fn positions_are_interpolated_to_the_size_that_is_asked_for() {
    for size in [18, 42] {
        assert_equals_the_reference(&open(&trained(), Some(size)).unwrap(), size);
    }
}

#[test]
fn a_table_of_another_size_than_the_configuration_says_is_interpolated_to_it() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(trained().join(file), folder.path().join(file)).unwrap();
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
    assert_equals_the_reference(&open(folder.path(), None).unwrap(), 42);
    // Asking for the size that the table was trained at undoes it.
    let checkpoint = open(folder.path(), Some(30)).unwrap();
    let model = Model::load(&checkpoint, Device::Cpu, Dtype::F32, LoadOptions::for_device(Device::Cpu));
    assert_eq!(model.unwrap().config().vision.tokens(), 26);
}

#[test]
fn a_size_that_patches_do_not_fill_is_refused_with_the_patch_size() {
    for size in [0, 32, 6 * 683] {
        let error = open(&trained(), Some(size)).unwrap_err().to_string();
        let expected =
            format!("image size is {size}, expected a multiple of the checkpoint's patch size 6, up to 4096");
        assert_eq!(error, expected);
    }
}
