//! Tests that a malicious or damaged pickle causes at most an error.

use std::{
    fs,
    io::{Cursor, Read as _, Write as _},
    path::Path,
    sync::LazyLock,
};

use proptest::prelude::*;
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::checkpoint::weights::*;

static ORIGINAL: LazyLock<Vec<u8>> =
    LazyLock::new(|| fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pickles/original.pth")).unwrap());

/// Returns an archive with these entries, in the format of `torch.save`.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file(format!("archive/{name}"), options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Opens the file and reads every tensor in it.
fn read_all(content: &[u8]) -> Result<Weights, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.pth");
    fs::write(&path, content).unwrap();
    read_all_at(&path)
}

fn read_all_at(path: &Path) -> Result<Weights, LoadError> {
    let weights = Weights::open(&ModelFiles::File(path.to_owned()))?;
    for entry in weights.entries.values() {
        assert_eq!(entry.read()?.len(), entry.bytes());
    }
    Ok(weights)
}

fn message(content: &[u8]) -> String {
    read_all(content).unwrap_err().to_string()
}

/// Returns a pickle of `{"w": tensor}`, where the tensor has f32 values in storage 0.
fn pickled_tensor(storage_elements: u32, size: u32, stride: u32) -> Vec<u8> {
    let number = |number: u32| [b"J".as_slice(), &number.to_le_bytes()].concat();
    let string = |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    [
        b"\x80\x02}".to_vec(),
        string("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        string("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        string("0"),
        string("cpu"),
        number(storage_elements),
        b"tQ".to_vec(),
        number(0),
        number(size),
        b"\x85".to_vec(),
        number(stride),
        b"\x85\x89}tRs.".to_vec(),
    ]
    .concat()
}

#[test]
fn tensor_is_read_from_minimal_archive() {
    let file = archive(&[("data.pkl", &pickled_tensor(2, 2, 1)), ("data/0", &[0, 0, 128, 63, 0, 0, 0, 64])]);
    let weights = read_all(&file).unwrap();
    let tensor = weights.load("w", &[2], Device::Cpu, Kind::Float).unwrap();
    assert_eq!(Vec::<f32>::try_from(tensor).unwrap(), [1.0, 2.0]);
}

#[test]
fn pickle_that_calls_the_shell_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let call = format!("cos\nsystem\n(S'touch {}'\ntR", mark.display());
    let in_dict = format!("}}S'w'\n{call}s.");
    for pickle in [format!("{call}."), in_dict] {
        let path = folder.path().join("shell.pth");
        fs::write(&path, archive(&[("data.pkl", pickle.as_bytes())])).unwrap();
        if let Ok(weights) = read_all_at(&path) {
            assert!(weights.entries.is_empty());
        }
        assert!(!mark.exists());
    }
}

#[test]
fn tensor_larger_than_its_file_is_rejected() {
    let file = archive(&[("data.pkl", &pickled_tensor(1, 1 << 30, 0)), ("data/0", &[0; 4])]);
    let error = message(&file);
    assert!(error.contains("tensor w has 4294967296 bytes, expected at most the file size"), "{error}");
}

#[test]
fn storage_shorter_than_in_pickle_is_an_error() {
    for (storage, size) in [(8, 8), (2, 4)] {
        let file = archive(&[("data.pkl", &pickled_tensor(storage, size, 1)), ("data/0", &[0; 8])]);
        assert!(message(&file).contains("elements"), "{}", message(&file));
    }
    let error = message(&archive(&[("data.pkl", &pickled_tensor(2, 2, 1))]));
    assert!(error.starts_with("cannot read hostile.pth: ") && error.contains("not found"), "{error}");
}

#[test]
fn oversized_pickle_is_rejected_by_its_length() {
    let lists = vec![b']'; (8 << 20) + 1];
    let error = message(&archive(&[("data.pkl", &lists)]));
    assert!(error.ends_with("pickle has 8388609 bytes, limit is 8388608"), "{error}");
}

#[test]
fn other_format_is_rejected_with_remedy() {
    // The format before torch 1.6 begins with the pickle of a magic number.
    let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    for content in [legacy.as_slice(), b"", b"PK", b"version https://git-lfs.github.com/spec/v1\n"] {
        let error = message(content);
        assert!(error.contains("not a zip archive") && error.contains("save it again"), "{error}");
    }
    assert!(message(&archive(&[("weights.txt", b"1 2 3")])).contains("data.pkl"));
}

/// Overwrites some bytes, and truncates the result at `end`.
fn damage(bytes: &[u8], places: &[(prop::sample::Index, u8)], end: Option<prop::sample::Index>) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for (position, byte) in places {
        damaged[position.index(bytes.len())] = *byte;
    }
    damaged.truncate(end.map_or(bytes.len(), |end| end.index(bytes.len())));
    damaged
}

fn places() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_file_is_an_error_or_is_read(places in places(), end in any::<Option<prop::sample::Index>>()) {
        let damaged = damage(&ORIGINAL, &places, end);
        let _ = read_all(&damaged);
        // The last part is the directory, which has sizes and offsets.
        let (data, directory) = ORIGINAL.split_at(ORIGINAL.len() - 10_000);
        let _ = read_all(&[data, &damage(directory, &places, None)].concat());
    }

    #[test]
    fn damaged_pickle_is_an_error_or_is_read(places in places(), end in any::<Option<prop::sample::Index>>()) {
        let mut pickle = Vec::new();
        let mut original = ZipArchive::new(Cursor::new(ORIGINAL.as_slice())).unwrap();
        original.by_name("original/data.pkl").unwrap().read_to_end(&mut pickle).unwrap();
        // The pickle can name storages that the archive does not have, which is an error, too.
        let file = archive(&[
            ("data.pkl", &damage(&pickle, &places, end)),
            ("data/0", &[0; 96]),
            ("data/1", &[0; 4]),
        ]);
        let _ = read_all(&file);
    }
}
