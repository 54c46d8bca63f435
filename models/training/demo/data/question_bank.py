"""Training data of the answering model as arrays: images, questions, answers and patch labels."""

import dataclasses
import multiprocessing
import random

import numpy
import torch
from PIL import Image

from . import questions, scenes
from .preprocess import scale
from .text_tokenizer import ANSWER_TOKENS, QUESTION_TOKENS


@dataclasses.dataclass
class QuestionBank:
    """`n` images with `q` questions each. Token ids are padded with 0.

    pixels [n, side, side, 3] u8
    questions [n, q, QUESTION_TOKENS]
    answers [n, q, ANSWER_TOKENS], with start token and stop token
    kinds [n, q], the index of the question's kind in `questions.NAMES`
    labels [n, 3, patches] (see `scenes.patch_labels`), or None
    """

    pixels: torch.Tensor
    questions: torch.Tensor
    answers: torch.Tensor
    kinds: torch.Tensor
    labels: torch.Tensor | None

    def __len__(self):
        return len(self.pixels)

    def to(self, device):
        """Returns a copy of the bank on another device."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return QuestionBank(*(value if value is None else value.to(device) for value in values))


def _chunk(job):
    """Draws `size` scenes of one seed in a worker process. Returns numpy arrays."""
    tokenizer, seed, size, per_scene, side, patches = job
    rng = random.Random(seed)
    pixels = numpy.empty((size, side, side, 3), numpy.uint8)
    labels = numpy.empty((size, 3, patches * patches), numpy.uint8)
    question_ids = numpy.zeros((size, per_scene, QUESTION_TOKENS), numpy.int16)
    answer_ids = numpy.zeros((size, per_scene, ANSWER_TOKENS), numpy.int16)
    kinds = numpy.zeros((size, per_scene), numpy.uint8)
    for i in range(size):
        scene = scenes.sample(rng)
        pixels[i] = scale(scenes.draw(scene), side)
        labels[i] = scenes.patch_labels(scene, patches)
        for j, (kind, question, answer) in enumerate(questions.ask(scene, rng, per_scene)):
            question_ids[i, j] = tokenizer.question(question)
            answer_ids[i, j] = tokenizer.answer(answer)
            kinds[i, j] = questions.NAMES.index(kind)
    return pixels, question_ids, answer_ids, kinds, labels


def generated_scenes(tokenizer, seed, total, per_scene, side, patches, workers, chunk=250):
    """Draws `total` scenes in `workers` processes. The result depends on the seed alone."""
    jobs = [
        (tokenizer, f"{seed}:{start}", min(chunk, total - start), per_scene, side, patches)
        for start in range(0, total, chunk)
    ]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        columns = list(zip(*pool.imap(_chunk, jobs), strict=True))
    return QuestionBank(*(torch.from_numpy(numpy.concatenate(column)) for column in columns))


def easy_vqa_train(tokenizer, side):
    """Loads the train split of easy-vqa.

    Images with few questions repeat some to fill their row.
    """
    import easy_vqa as data

    texts, answers, owners = data.get_train_questions()
    paths = data.get_train_image_paths()
    by_image = {}
    for text, answer, owner in zip(texts, answers, owners, strict=True):
        by_image.setdefault(owner, []).append((tokenizer.question(text), tokenizer.answer(answer)))
    most = max(map(len, by_image.values()))
    order = sorted(by_image)
    rows = [[by_image[i][j % len(by_image[i])] for j in range(most)] for i in order]
    pixels = numpy.stack([scale(Image.open(paths[i]), side) for i in order])
    return QuestionBank(
        torch.from_numpy(pixels),
        torch.tensor([[question for question, _ in row] for row in rows], dtype=torch.int16),
        torch.tensor([[answer for _, answer in row] for row in rows], dtype=torch.int16),
        torch.zeros(len(rows), most, dtype=torch.uint8),
        None,
    )
