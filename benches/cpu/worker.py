"""Runs one peer: each line of standard input is a batch, each line of standard output its result.

    python worker.py PEER FOLDER --images FORMAT --texts FORMAT --threads N [--prepare]

A peer is a class `Peer` in `peers/`. It loads the parts of the model, `encode` computes what it
stores about images, and `ask` answers questions about them. A peer with a function `prepare` writes
its model files once.
"""

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path

import numpy

from sizes import DEVIATION, MEAN, SIDE


class LeftOut(Exception):
    """The peer has nothing to measure on this machine. The message is the reason."""


class Session:
    """A peer with its inputs, and what it has stored about images."""

    def __init__(self, peer, folder):
        self.peer = peer
        pixels = numpy.fromfile(folder / "images.rgb", numpy.uint8).reshape(-1, SIDE, SIDE, 3)
        scaled = (pixels.astype(numpy.float32) / 255 - numpy.float32(MEAN)) / numpy.float32(DEVIATION)
        self.pixels = numpy.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
        self.questions = numpy.array(json.loads((folder / "questions.json").read_text()), numpy.int64)
        self.stored = {}

    def run(self, images, questions, cached):
        """Returns the milliseconds and the answers of a batch."""
        pixels = self.pixels[images]
        rows = [at * questions + each for at in images for each in range(questions)]
        token_ids = self.questions[numpy.array(rows) % len(self.questions)]
        token_ids = token_ids.reshape(len(images), questions, -1)
        key = tuple(images)
        if cached and key not in self.stored:
            self.stored[key] = self.peer.encode(pixels)
        start = time.perf_counter()
        features = self.stored[key] if cached else self.peer.encode(pixels)
        answers = self.peer.ask(features, token_ids)
        ms = (time.perf_counter() - start) * 1e3
        return {"ms": ms, "answers": numpy.asarray(answers).reshape(len(rows), -1).tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", help="name of a file in peers/")
    parser.add_argument("folder", type=Path, help="folder with model, images and questions")
    parser.add_argument("--images", default="f32", help="number format of the vision encoder")
    parser.add_argument("--texts", default="f32", help="number format of the text encoder and decoder")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prepare", action="store_true", help="write the peer's model files and exit")
    options = parser.parse_args()
    # Libraries print to standard output as well.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    settings = (options.folder, options.images, options.texts, options.threads)

    def write(line):
        print(json.dumps(line), file=answers, flush=True)

    try:
        module = importlib.import_module(f"peers.{options.peer}")
        if options.prepare:
            getattr(module, "prepare", lambda *_: None)(*settings)
            return write({"ready": True})
        peer = module.Peer(*settings)
        session = Session(peer, options.folder)
    except LeftOut as reason:
        return write({"left_out": str(reason)})
    write({"ready": True, "version": peer.version})
    for line in sys.stdin:
        write(session.run(**json.loads(line)))


if __name__ == "__main__":
    # Peers import this module by its name.
    sys.modules["worker"] = sys.modules["__main__"]
    main()
