#!/usr/bin/env python3
"""Times image decoding and scaling in Pillow, on one thread.

    pip install pillow==12.3.0 numpy
    python benches/engine/time_pillow.py [photo.jpg]

It prints the median and the minimum of each step in milliseconds. Compare them with
`cargo bench -p blip --bench preprocess` and `cargo bench -p images --bench decode`.
"""

import io
import statistics
import sys
import time

import numpy as np
import PIL
from PIL import Image, features

SIZES = [(640, 480), (480, 640), (1920, 1080), (200, 150)]
ROUNDS = 200


def milliseconds(work):
    """Returns the median and the minimum time of a function as text."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return f"{statistics.median(times):7.3f} median {min(times):7.3f} minimum"


def main():
    print(f"pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}, {ROUNDS} rounds, ms")
    noise = np.random.default_rng(0)
    for width, height in SIZES:
        image = Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
        work = milliseconds(lambda: image.resize((384, 384), Image.Resampling.BICUBIC))
        print(f"resize {width}x{height} to 384x384: {work}")
    for path in sys.argv[1:]:
        data = open(path, "rb").read()
        work = milliseconds(lambda: Image.open(io.BytesIO(data)).convert("RGB"))
        print(f"decode {path}: {work}")


if __name__ == "__main__":
    main()
