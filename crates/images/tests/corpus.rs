//! The fuzz targets' committed seeds, replayed without a fuzzer.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use images::fetch::{FetchConfig, UrlPolicy};

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let seeds: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
        .collect();
    assert!(!seeds.is_empty());
    seeds
}

#[test]
fn every_url_that_passes_passes_as_it_was_understood() {
    let policy = UrlPolicy::new(&FetchConfig::default());
    let mut passed = 0;
    for (name, seed) in seeds("image_url") {
        if let Ok(url) = policy.parse(&String::from_utf8_lossy(&seed)) {
            passed += 1;
            assert_eq!(policy.parse(url.as_str()), Ok(url), "{name}");
        }
    }
    assert!(passed >= 4, "{passed} of the seeds pass");
}
