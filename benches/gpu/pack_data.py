"""Writes the images and questions of the GPU suite into a folder, for a machine without them.

    python benches/gpu/pack_data.py dist/gpu/gpu_data

* `easy_vqa/`: the test split of easy-vqa. `questions.jsonl` has one question per line, with the
  correct answer, and with the token ids and the margin of the reference.
* `jpegs/`: 64 JPEG files of unequal sizes, from 320 to 1,600 pixels wide.
"""

import argparse
import gzip
import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models/training"))
from demo.data import easy_vqa_set  # noqa: E402

REFERENCE = ROOT / "tests/reference/data/easy_vqa_reference.json.gz"
JPEGS = 64


def pack_easy_vqa(folder):
    """Copies the images and writes the questions with their expected answers."""
    (folder / "images").mkdir(parents=True)
    reference = json.loads(gzip.decompress(REFERENCE.read_bytes()))
    paths, questions = easy_vqa_set.load()
    for path in paths:
        shutil.copy(path, folder / "images")
    with (folder / "questions.jsonl").open("w") as lines:
        for question, (which, _, margin) in zip(questions, reference["given"], strict=True):
            record = {
                "image": f"images/{Path(paths[question.image]).name}",
                "question": question.text,
                "correct": question.answer,
                "expected_token_ids": reference["answers"][which]["token_ids"],
                "expected_margin": margin,
            }
            lines.write(json.dumps(record) + "\n")


def pack_jpegs(folder):
    """Writes images of smooth noise, which compress about as well as photographs."""
    folder.mkdir(parents=True)
    sizes, noise = random.Random(7), np.random.default_rng(7)
    for index in range(JPEGS):
        width, height = sizes.randint(320, 1600), sizes.randint(240, 1200)
        coarse = Image.fromarray(noise.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{index:02}.jpg", quality=85)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    pack_easy_vqa(folder / "easy_vqa")
    pack_jpegs(folder / "jpegs")


if __name__ == "__main__":
    main()
