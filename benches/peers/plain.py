"""Runs transformers in a loop over batches, without a server.

Prints questions per second as JSON.
"""

import json
import os
import sys
import time

import settings
from reference import Reference


def main(images, questions, seconds):
    reference = Reference(settings.MODEL, settings.THREADS)
    rows = [(image, questions[number % len(questions)]) for number, image in enumerate(images)]
    answered, start, at = 0, None, 0
    end = time.perf_counter() + 2 + seconds
    while (now := time.perf_counter()) < end:
        if start is None and now > end - seconds:
            start, answered = now, 0
        batch = [rows[(at + offset) % len(rows)] for offset in range(settings.BATCH)]
        at += settings.BATCH
        answered += len(reference.answer(batch))
    print(json.dumps({"questions_per_s": answered / (time.perf_counter() - start)}))


if __name__ == "__main__":
    folder, file, seconds = sys.argv[1:]
    names = sorted(os.listdir(folder))[:1000]
    files = []
    for name in names:
        with open(os.path.join(folder, name), "rb") as image:
            files.append(image.read())
    with open(file, encoding="utf-8") as lines:
        texts = [line.strip() for line in lines]
    main(files, texts, float(seconds))
