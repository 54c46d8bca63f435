//! Replays the committed seeds of the fuzz targets without a fuzzer.

#[path = "../fuzz/src/entries/mod.rs"]
#[expect(unreachable_pub, clippy::unwrap_used, reason = "also the library of the fuzz targets")]
mod entries;

use std::{
    collections::BTreeSet,
    fs,
    panic::{catch_unwind, set_hook, take_hook},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The number of panics that the server does not expect. The runtime catches those of tasks.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn corpus() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"))
}

#[test]
fn targets_and_seed_folders_have_equal_names() {
    let folders =
        fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = entries::ENTRIES.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(folders.collect::<BTreeSet<_>>(), names.collect());
}

#[test]
fn every_seed_satisfies_the_invariants_of_its_target() {
    entries::decode_worker::PROGRAM.get_or_init(|| env!("CARGO_BIN_EXE_blip-serve").into());
    let print = take_hook();
    set_hook(Box::new(move |panic| {
        if !entries::is_caught(panic) {
            PANICS.fetch_add(1, Ordering::Relaxed);
            print(panic);
        }
    }));
    for (name, entry) in entries::ENTRIES {
        let (mut accepted, mut refused) = (0, 0);
        for seed in fs::read_dir(corpus().join(name)).unwrap() {
            let path = seed.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let is_accepted = catch_unwind(|| entry(&bytes)).unwrap_or_else(|_| panic!("{}", path.display()));
            assert_eq!(PANICS.load(Ordering::Relaxed), 0, "{}", path.display());
            *(if is_accepted { &mut accepted } else { &mut refused }) += 1;
        }
        // A fuzzer needs accepted and refused seeds.
        assert!(accepted >= 3 && refused >= 3, "{name}: {accepted} accepted, {refused} refused");
    }
}
