//! The fuzz targets' committed seeds, replayed without a fuzzer.

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is the library of the fuzz targets, too")]
mod entries;

use std::{collections::BTreeSet, fs, panic::catch_unwind, path::Path};

fn corpus() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"))
}

#[test]
fn every_target_has_seeds_and_all_seeds_have_a_target() {
    let folders =
        fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = entries::ENTRIES.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(folders.collect::<BTreeSet<_>>(), names.collect());
}

#[test]
fn what_must_be_true_is_true_of_every_seed() {
    for (name, entry) in entries::ENTRIES {
        let (mut taken, mut refused) = (0, 0);
        for seed in fs::read_dir(corpus().join(name)).unwrap() {
            let path = seed.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let was_taken = catch_unwind(|| entry(&bytes)).unwrap_or_else(|_| panic!("{}", path.display()));
            *(if was_taken { &mut taken } else { &mut refused }) += 1;
        }
        // Seeds that are all refused, or all taken, would lead a fuzzer nowhere.
        assert!(taken >= 3 && refused >= 3, "{name}: {taken} taken, {refused} refused");
    }
}
