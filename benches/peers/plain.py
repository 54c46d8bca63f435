"""transformers in a plain loop over batches, without a server: prints questions a second as JSON."""

import json
import os
import sys
import time

import settings
from reference import Reference


def main(pictures, questions, seconds):
    reference = Reference(settings.MODEL, settings.THREADS)
    rows = [(picture, questions[number % len(questions)]) for number, picture in enumerate(pictures)]
    answered, begun, at = 0, None, 0
    end = time.perf_counter() + 2 + seconds
    while (now := time.perf_counter()) < end:
        if begun is None and now > end - seconds:
            begun, answered = now, 0
        batch = [rows[(at + offset) % len(rows)] for offset in range(settings.BATCH)]
        at += settings.BATCH
        answered += len(reference.answer(batch))
    print(json.dumps({"questions_per_s": answered / (time.perf_counter() - begun)}))


if __name__ == "__main__":
    folder, file, seconds = sys.argv[1:]
    names = sorted(os.listdir(folder))[:1000]
    files = []
    for name in names:
        with open(os.path.join(folder, name), "rb") as picture:
            files.append(picture.read())
    with open(file, encoding="utf-8") as lines:
        texts = [line.strip() for line in lines]
    main(files, texts, float(seconds))
