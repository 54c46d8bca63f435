"""Measures the accuracy of an answering model."""

import collections
import dataclasses
import typing

import torch
from PIL import Image

from ..data import easy_vqa_set, preprocess, questions
from .generation import ask


@dataclasses.dataclass(frozen=True)
class QuestionExam:
    """Questions with their correct answers.

    `images` and `rows` are the arguments of `generation.ask`. `expected` holds token ids, stop
    token included. `kinds` holds the kind of each question, if known.
    """

    images: typing.Callable
    rows: list
    expected: list
    kinds: list | None = None

    @classmethod
    def of_bank(cls, bank):
        """Returns an exam of every question in a `QuestionBank`."""
        rows, expected, kinds = [], [], []
        for image in range(len(bank)):
            for question, answer, kind in zip(
                bank.questions[image], bank.answers[image], bank.kinds[image], strict=True
            ):
                rows.append((image, [t for t in question.tolist() if t]))
                expected.append(tuple(t for t in answer.tolist()[1:] if t))
                kinds.append(questions.NAMES[kind])
        return cls(lambda indices: preprocess.normalize(bank.pixels[indices]), rows, expected, kinds)

    @classmethod
    def of_easy_vqa_test(cls, tokenizer, side, limit=None):
        """Returns an exam of the test split of easy-vqa, which is not used in training."""
        paths, easy_questions = easy_vqa_set.load()
        easy_questions = easy_questions[:limit]
        pixels = torch.stack([torch.tensor(preprocess.scale(Image.open(path), side)) for path in paths])
        return cls(
            lambda indices: preprocess.normalize(pixels[indices]),
            [(q.image, [t for t in tokenizer.question(q.text) if t]) for q in easy_questions],
            [tuple(t for t in tokenizer.answer(q.answer)[1:] if t) for q in easy_questions],
        )

    def take(self, model):
        """Returns the numbers of questions and correct answers, and the accuracy by kind."""
        right = [
            answer.ids == expected
            for answer, expected in zip(ask(model, self.images, self.rows), self.expected, strict=True)
        ]
        result = {"questions": len(right), "right": sum(right), "accuracy": sum(right) / len(right)}
        if self.kinds:
            by_kind = collections.defaultdict(list)
            for kind, ok in zip(self.kinds, right, strict=True):
                by_kind[kind].append(ok)
            result["by_kind"] = {
                kind: sum(by_kind[kind]) / len(by_kind[kind]) for kind in questions.NAMES if by_kind[kind]
            }
        return result
