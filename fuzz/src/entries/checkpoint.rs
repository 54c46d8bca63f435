//! The files of a checkpoint.
//!
//! An input changes some files of a small checkpoint. A line `=== NAME` begins a file. A file
//! without content is removed.

use std::{fs, io::Write as _, panic::PanicHookInfo, path::Path};

use blip::{Checkpoint, DeviceRequest, Dtype, LoadOptions, Model, ModelFiles, RgbView, open_device};
use blip_server::models::info::ModelInfo;

/// The files of the checkpoint, except its weights.
const FILES: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../../crates/blip/tests/goldens/thirty_by_six/config.json")),
    (
        "preprocessor_config.json",
        include_bytes!("../../../crates/blip/tests/goldens/thirty_by_six/preprocessor_config.json"),
    ),
    ("tokenizer.json", include_bytes!("../../../crates/blip/tests/goldens/thirty_by_six/tokenizer.json")),
    (
        "tokenizer_config.json",
        include_bytes!("../../../crates/blip/tests/goldens/thirty_by_six/tokenizer_config.json"),
    ),
];

/// The weights of the checkpoint.
const WEIGHTS: &[u8] = include_bytes!("../../../crates/blip/tests/goldens/thirty_by_six/model.safetensors");

/// A weight file without tensors.
const NO_WEIGHTS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

/// The files of a tokenizer.
const TOKENIZER_FILES: [&str; 5] =
    ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

/// The files of the configuration.
const CONFIG_FILES: [&str; 4] =
    ["config.json", "preprocessor_config.json", "processor_config.json", "generation_config.json"];

/// Texts of clients, for tokenizers.
const TEXTS: [&str; 5] = [
    "",
    "what is the [MASK] in this image?",
    "[CLS] \u{130}stanbul \u{5c71}\u{301}\u{0} cafe\u{301} \u{1f600} [SEP][PAD]",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
    "red green blue red green blue red green blue red green blue 1 2 3 4 5 6 7 8 9 0 - . ' \" ; : ( ) \t\n\u{a0}",
];

/// The largest file of weights, in bytes. The bytes after the header cost nothing on disk.
const MAX_WEIGHT_BYTES: u64 = 4 << 20;

/// The maximum size of an image that is scaled, in pixels.
const MAX_SCALED_PIXELS: usize = 1 << 16;

/// Returns whether a panic is one of the tokenizer library, which the `blip` crate catches.
pub fn is_caught(panic: &PanicHookInfo<'_>) -> bool {
    let file = panic.location().map(|location| location.file()).unwrap_or_default();
    ["/tokenizers-", "/spm_precompiled-"].iter().any(|library| file.contains(library))
}

/// Opens a checkpoint with changed files of the tokenizer, and converts texts to tokens and back.
/// Every token has a word embedding.
pub fn tokenizer_files(bytes: &[u8]) -> bool {
    let folder = folder(NO_WEIGHTS);
    change(folder.path(), bytes, &TOKENIZER_FILES);
    let Some(checkpoint) = open(folder.path()) else { return false };
    let (tokenizer, vocabulary) = (checkpoint.tokenizer(), checkpoint.config().text.vocab_size);
    for text in TEXTS {
        let encoded = [tokenizer.encode(text), tokenizer.encode_prompt(text), tokenizer.encode_bare(text)];
        for ids in encoded.into_iter().flatten() {
            assert!(ids.len() <= tokenizer.max_tokens());
            assert!(ids.iter().all(|id| (0..vocabulary).contains(id)), "{text:?}: {ids:?}");
            tokenizer.decode(&ids);
        }
    }
    tokenizer.decode(&(0..vocabulary).collect::<Vec<_>>());
    true
}

/// Opens a checkpoint with changed files of the configuration, and loads the model if it can be
/// opened.
pub fn config_files(bytes: &[u8]) -> bool {
    let folder = folder(WEIGHTS);
    change(folder.path(), bytes, &CONFIG_FILES);
    let Some(checkpoint) = open(folder.path()) else { return false };
    let preprocessor = checkpoint.preprocessor();
    if preprocessor.width() * preprocessor.height() <= MAX_SCALED_PIXELS {
        let image = RgbView::new(3, 2, &[7; 18]).unwrap();
        let pixels = preprocessor.resize(image);
        assert_eq!(pixels.data().len(), preprocessor.width() * preprocessor.height() * 3);
    }
    let (scale, offset) = preprocessor.normalisation();
    assert!(scale.iter().chain(&offset).all(|number| number.is_finite()), "{scale:?} {offset:?}");
    load(&checkpoint)
}

/// Opens a checkpoint with a changed file of weights: a header in JSON, or the whole file after a
/// zero byte.
pub fn safetensors_header(bytes: &[u8]) -> bool {
    let file = match bytes {
        [0, file @ ..] => file.to_vec(),
        header => [&(header.len() as u64).to_le_bytes()[..], header].concat(),
    };
    let folder = folder(&file);
    if bytes.first() != Some(&0) {
        let end = (file.len() as u64).saturating_add(data_bytes(bytes)).min(MAX_WEIGHT_BYTES);
        let opened = fs::File::options().write(true).open(folder.path().join("model.safetensors"));
        opened.unwrap().set_len(end).unwrap();
    }
    let Some(checkpoint) = open(folder.path()) else { return false };
    assert!(checkpoint.weights().bytes() as u64 <= MAX_WEIGHT_BYTES.max(file.len() as u64));
    load(&checkpoint);
    true
}

/// Returns the bytes of data that a header of safetensors states.
fn data_bytes(header: &[u8]) -> u64 {
    let header: serde_json::Value = serde_json::from_slice(header).unwrap_or_default();
    let tensors = header.as_object().into_iter().flat_map(|tensors| tensors.values());
    let ends = tensors.filter_map(|tensor| tensor.pointer("/data_offsets/1")?.as_u64());
    ends.max().unwrap_or_default()
}

/// Creates the folder of a checkpoint with these weights.
fn folder(weights: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in FILES.into_iter().chain([("model.safetensors", weights)]) {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// Writes the files of the input whose names are in `names`.
fn change(folder: &Path, bytes: &[u8], names: &[&str]) {
    let mut file: Option<fs::File> = None;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"=== ") {
            let name = names.iter().find(|known| name.trim_ascii_end() == known.as_bytes());
            file = name.map(|name| fs::File::create(folder.join(name)).unwrap());
        } else if let Some(file) = &mut file {
            file.write_all(line).unwrap();
        }
    }
    for name in names {
        let path = folder.join(name);
        if fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            fs::remove_file(&path).unwrap();
        }
    }
}

/// Opens a checkpoint. An error has a message.
fn open(folder: &Path) -> Option<Checkpoint> {
    match Checkpoint::open(&ModelFiles::Folder(folder.to_owned())) {
        Ok(checkpoint) => Some(checkpoint),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Loads the model of a checkpoint, and returns whether its files fit together.
fn load(checkpoint: &Checkpoint) -> bool {
    assert!(ModelInfo::new("fuzz".into(), "", None, checkpoint, "cpu", "f32").parameters > 0);
    assert!(checkpoint.default_generation().num_beams > 0);
    let device = open_device(DeviceRequest::Cpu).unwrap().device;
    let options = LoadOptions {
        feature_cache_bytes: 0,
        cross_attention_cache_bytes: 0,
        max_batch_images: 1,
        ..LoadOptions::for_device(device)
    };
    match Model::load(checkpoint, device, Dtype::F32, options) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
