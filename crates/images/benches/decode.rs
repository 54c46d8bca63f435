//! Measures decoding and digests of photographs.
//!
//! `BLIP_SERVE_BENCH_PHOTOS` lists the files as paths separated by colons. The default is one
//! golden file of each format. `benches/engine/time_pillow.py` measures Pillow on the same files.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use images::{Decoder, ImageDigest};

fn photographs() -> Vec<PathBuf> {
    if let Some(paths) = std::env::var_os("BLIP_SERVE_BENCH_PHOTOS") {
        return std::env::split_paths(&paths).collect();
    }
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pillow"));
    let names = [
        "png_rgb_8.png",
        "jpeg_420_q75.jpeg",
        "webp_lossy_q80.webp",
        "gif_palette.gif",
        "bmp_rgb.bmp",
        "tiff_rgb.tiff",
    ];
    names.iter().map(|name| folder.join(name)).collect()
}

fn decode(criterion: &mut Criterion) {
    let decoder = Decoder::default();
    for path in photographs() {
        let bytes = std::fs::read(&path).unwrap();
        let mut group = criterion.benchmark_group(path.file_name().unwrap().to_string_lossy());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("decode", |bencher| bencher.iter(|| decoder.decode(black_box(&bytes)).unwrap()));
        group.bench_function("digest", |bencher| bencher.iter(|| ImageDigest::of(black_box(&bytes))));
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
