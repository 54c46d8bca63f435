"""Writes the images and questions that all engines get: random pixels, random token ids."""

import json
import sys
from pathlib import Path

import numpy

from sizes import IMAGES, QUESTION_TOKENS, QUESTIONS, SIDE, VOCABULARY


def main(folder):
    random = numpy.random.default_rng(7)
    random.integers(0, 256, (IMAGES, SIDE, SIDE, 3), numpy.uint8).tofile(folder / "images.rgb")
    token_ids = random.integers(1_000, VOCABULARY, (IMAGES * QUESTIONS, QUESTION_TOKENS))
    token_ids[:, 0], token_ids[:, -1] = 101, 102
    (folder / "questions.json").write_text(json.dumps(token_ids.tolist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
