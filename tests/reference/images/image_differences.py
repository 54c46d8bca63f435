#!/usr/bin/env python3
"""Compares the image decoder with Pillow on generated files of every format.

    python image_differences.py DECODE_FILES [NAME ...]

`DECODE_FILES` is the example `decode_files` of the crate `images`. The script generates the files,
decodes each with Pillow and with the example, and prints the differences. A difference that
`expected_differences.json` does not list is a failure, and so is one that it lists in vain.
`--write` replaces the list. `docs/decisions/image-modes.md` explains every group of it.
"""

import argparse
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import bmp_files
import gif_files
import jpeg_files
import numpy as np
import PIL
import png_files
import tiff_files
import webp_files
from PIL import Image

FORMATS = [png_files, jpeg_files, webp_files, gif_files, bmp_files, tiff_files]
EXPECTED = pathlib.Path(__file__).with_name("expected_differences.json")
PILLOW = "12.3.0"


def generated_files(names=()):
    """Returns the files by name, all of them or those whose names begin with one of `names`."""
    files = {}
    for module in FORMATS:
        for name, data in module.files():
            if name in files:
                raise ValueError(f"two files have the name {name}")
            files[name] = data
    return {name: data for name, data in files.items() if not names or name.startswith(tuple(names))}


def pillow_pixels(data):
    """Returns what the reference makes of a file: pixels, or None if it refuses the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except Exception:  # the exception depends on the format
        return None


def decoder_results(program, files):
    """Yields the name of each file with its pixels or the error of the decoder."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, data in files.items():
            path = pathlib.Path(folder, name)
            path.write_bytes(data)
            paths.append(str(path))
        run = subprocess.run([program], input="\n".join(paths).encode(), capture_output=True, check=True)
    out = io.BytesIO(run.stdout)
    for name in files:
        width, height, *error = out.readline().decode().rstrip("\n").split(" ", 2)
        width, height = int(width), int(height)
        if error:
            yield name, error[0]
        else:
            pixels = np.frombuffer(out.read(width * height * 3), np.uint8)
            yield name, pixels.reshape(height, width, 3)


def difference(expected, actual):
    """Describes how a result differs from that of Pillow, or returns None."""
    if isinstance(actual, str):
        return None if expected is None else actual
    if expected is None:
        return "decoded, refused by Pillow"
    if expected.shape != actual.shape:
        return f"{actual.shape[1]} x {actual.shape[0]} pixels, not {expected.shape[1]} x {expected.shape[0]}"
    gaps = np.abs(expected.astype(int) - actual)
    return f"{(gaps > 0).sum()} of {gaps.size} samples differ by up to {gaps.max()}" if gaps.any() else None


def differences(program, names=()):
    """Returns the number of files and the differences by name."""
    if PIL.__version__ != PILLOW:
        raise SystemExit(f"unsupported Pillow version: {PIL.__version__}, {PILLOW} required")
    files = generated_files(names)
    found = {}
    for name, actual in decoder_results(program, files):
        described = difference(pillow_pixels(files[name]), actual)
        if described:
            found[name] = described
    return len(files), found


def expected_differences():
    return json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the example decode_files")
    parser.add_argument("names", nargs="*", help="beginnings of the names of files")
    parser.add_argument("--write", action="store_true", help="replace the list of expected differences")
    arguments = parser.parse_args()
    count, found = differences(arguments.program, arguments.names)
    for name, described in found.items():
        print(f"{name}: {described}")
    print(f"{count} files, {len(found)} differences")
    if arguments.write:
        EXPECTED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    elif not arguments.names and found != expected_differences():
        sys.exit("the differences are not the expected ones")


if __name__ == "__main__":
    main()
