//! The resizer of the preprocessor, compared with the fastest resizer that is not bit-equal.
//!
//! `benches/engine/time_pillow.py` times Pillow on the same sizes.

#![expect(clippy::unwrap_used, reason = "a benchmark panics on errors")]

use std::hint::black_box;

use blip::preprocess::{Preprocessor, PreprocessorConfig, RgbView};
use criterion::{Criterion, criterion_group, criterion_main};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

fn resize(criterion: &mut Criterion) {
    for (width, height) in [(640, 480), (480, 640), (1920, 1080), (200, 150)] {
        let data: Vec<u8> =
            (0..width * height * 3).map(|i: usize| ((i * 2_654_435_761) >> 13) as u8).collect();
        let mut group = criterion.benchmark_group(format!("resize {width}x{height} to 384x384"));
        let preprocessor = Preprocessor::new(PreprocessorConfig::default());
        group.bench_function("native", |bencher| {
            bencher.iter(|| preprocessor.resize(RgbView::new(width, height, black_box(&data)).unwrap()));
        });
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        let mut resizer = Resizer::new();
        group.bench_function("fast_image_resize", |bencher| {
            bencher.iter(|| {
                let source =
                    ImageRef::new(width as u32, height as u32, black_box(&data), PixelType::U8x3).unwrap();
                let mut target = Image::new(384, 384, PixelType::U8x3);
                resizer.resize(&source, &mut target, Some(&options)).unwrap();
                target
            });
        });
        group.finish();
    }
}

criterion_group!(benches, resize);
criterion_main!(benches);
