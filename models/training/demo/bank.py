"""Training data as arrays: pictures, their questions and answers as token ids, patch labels."""

import dataclasses
import functools
import multiprocessing
import random

import numpy
import torch
from PIL import Image

from . import questions, scenes, wordpiece

QUESTION_TOKENS = 28
ANSWER_TOKENS = 16


@dataclasses.dataclass
class Bank:
    """`n` pictures with `q` questions each; ids are padded with 0.

    pixels [n, side, side, 3] u8; questions [n, q, QUESTION_TOKENS]; answers [n, q, ANSWER_TOKENS],
    start token first and stop token last; kinds [n, q], the index of the question's kind;
    labels [n, 3, patches] or nothing (see `scenes.patch_labels`).
    """

    pixels: torch.Tensor
    questions: torch.Tensor
    answers: torch.Tensor
    kinds: torch.Tensor
    labels: torch.Tensor | None

    def __len__(self):
        return len(self.pixels)

    def to(self, device):
        return Bank(*(getattr(self, f.name) if getattr(self, f.name) is None else getattr(self, f.name).to(device)
                      for f in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Text to rows of token ids."""

    entries: tuple

    @functools.cached_property
    def tokenizer(self):
        return wordpiece.build(self.entries)

    @property
    def start(self):
        return len(self.entries)  # [DEC], the first id past the tokenizer's own, as in BLIP

    @property
    def stop(self):
        return self.entries.index("[SEP]")

    def question(self, text):
        return self._padded(self.tokenizer.encode(text).ids, QUESTION_TOKENS, text)

    def answer(self, text):
        inner = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self._padded([self.start, *inner, self.stop], ANSWER_TOKENS, text)

    def decode(self, ids):
        return self.tokenizer.decode([i for i in ids if i < self.start])

    @staticmethod
    def _padded(ids, length, text):
        if len(ids) > length:
            raise ValueError(f"{len(ids)} tokens, over the limit of {length}: {text}")
        return ids + [0] * (length - len(ids))


def shrink(image, side):
    """RGB at the model's size, exactly as the image processor makes it."""
    return numpy.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def _chunk(job):
    """One worker's share: `size` scenes of one seed, as numpy arrays."""
    encoder, seed, size, per_scene, side, patches = job
    rng = random.Random(seed)
    pixels = numpy.empty((size, side, side, 3), numpy.uint8)
    labels = numpy.empty((size, 3, patches * patches), numpy.uint8)
    asked = numpy.zeros((size, per_scene, QUESTION_TOKENS), numpy.int16)
    answers = numpy.zeros((size, per_scene, ANSWER_TOKENS), numpy.int16)
    kinds = numpy.zeros((size, per_scene), numpy.uint8)
    for i in range(size):
        scene = scenes.sample(rng)
        pixels[i] = shrink(scenes.draw(scene), side)
        labels[i] = scenes.patch_labels(scene, patches)
        for j, (kind, question, answer) in enumerate(questions.ask(scene, rng, per_scene)):
            asked[i, j] = encoder.question(question)
            answers[i, j] = encoder.answer(answer)
            kinds[i, j] = questions.NAMES.index(kind)
    return pixels, asked, answers, kinds, labels


def own_scenes(encoder, seed, total, per_scene, side, patches, workers, chunk=250):
    """`total` scenes made by all processors; the result depends on the seed alone."""
    jobs = [(encoder, f"{seed}:{start}", min(chunk, total - start), per_scene, side, patches)
            for start in range(0, total, chunk)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        columns = list(zip(*pool.imap(_chunk, jobs), strict=True))
    return Bank(*(torch.from_numpy(numpy.concatenate(column)) for column in columns))


def easy_vqa_train(encoder, side):
    """The train split of easy-vqa; a picture with few questions repeats some, to fill its row."""
    import easy_vqa as data

    texts, answers, owners = data.get_train_questions()
    paths = data.get_train_image_paths()
    by_image = {}
    for text, answer, owner in zip(texts, answers, owners, strict=True):
        by_image.setdefault(owner, []).append((encoder.question(text), encoder.answer(answer)))
    most = max(map(len, by_image.values()))
    order = sorted(by_image)
    rows = [[by_image[i][j % len(by_image[i])] for j in range(most)] for i in order]
    pixels = numpy.stack([shrink(Image.open(paths[i]), side) for i in order])
    return Bank(
        torch.from_numpy(pixels),
        torch.tensor([[question for question, _ in row] for row in rows], dtype=torch.int16),
        torch.tensor([[answer for _, answer in row] for row in rows], dtype=torch.int16),
        torch.zeros(len(rows), most, dtype=torch.uint8),
        None,
    )
