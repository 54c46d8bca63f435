"""Asks a model and counts: every question on its own terms, as the reference would answer it alone."""

import collections
import dataclasses
import typing

import torch

from . import network, questions

MAX_NEW_TOKENS = 20


@dataclasses.dataclass(frozen=True)
class Answer:
    """Token ids after the start token, stop token included; the sum of their log-probabilities;
    the smallest lead, in logits, that a chosen token had over the next best."""

    ids: tuple
    score: float
    margin: float


def answers_of(out, given, stop):
    """Every row's `Answer`, read from what `generate` returned with `output_logits`; the first
    `given` tokens of a sequence are its start, not its answer."""
    steps = torch.stack(out.logits, 1).double()
    chosen = out.sequences[:, given:]
    best = steps.topk(2, -1).values
    logp = steps.log_softmax(-1).gather(-1, chosen[..., None])[..., 0]
    answers = []
    for row, ids in enumerate(chosen.tolist()):
        length = ids.index(stop) + 1 if stop in ids else len(ids)
        lead = (best[row, :length, 0] - best[row, :length, 1]).min()
        answers.append(Answer(tuple(ids[:length]), float(logp[row, :length].sum()), float(lead)))
    return answers


@torch.no_grad()
def ask(model, pictures, rows, batch=512):
    """Answers `rows`, pairs of (picture's index, question ids without padding), in order.

    `pictures` maps a list of indices to pixel values [n, 3, side, side]. Questions of equal length
    share a batch, so nothing is ever padded and the library's own `generate` gives each the answer
    that it would get alone.
    """
    stop = model.config.text_config.sep_token_id
    by_length = collections.defaultdict(list)
    for position, (_, ids) in enumerate(rows):
        by_length[len(ids)].append(position)
    answers = [None] * len(rows)
    for _, positions in sorted(by_length.items()):
        for start in range(0, len(positions), batch):
            part = positions[start : start + batch]
            images = pictures([rows[p][0] for p in part]).to(model.device)
            asked = torch.tensor([rows[p][1] for p in part], device=model.device)
            out = model.generate(
                input_ids=asked, pixel_values=images, max_new_tokens=MAX_NEW_TOKENS,
                return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
            for position, answer in zip(part, answers_of(out, 1, stop), strict=True):
                answers[position] = answer
    return answers


@dataclasses.dataclass(frozen=True)
class Exam:
    """Questions with the answers wanted: `pictures` and `rows` as `ask` takes them, the wanted
    token ids of each (stop token included), and each question's kind, where there are kinds."""

    pictures: typing.Callable
    rows: list
    wanted: list
    kinds: list | None = None

    @classmethod
    def of_bank(cls, bank):
        """Every question of a bank."""
        rows, wanted, kinds = [], [], []
        for image in range(len(bank)):
            asked = zip(bank.questions[image], bank.answers[image], bank.kinds[image], strict=True)
            for question, answer, kind in asked:
                rows.append((image, [t for t in question.tolist() if t]))
                wanted.append(tuple(t for t in answer.tolist()[1:] if t))
                kinds.append(questions.NAMES[kind])
        return cls(lambda indices: network.normalise(bank.pixels[indices]), rows, wanted, kinds)

    def take(self, model):
        """`{"questions": n, "right": n, "accuracy": share}`, and the share for every kind."""
        right = [answer.ids == want
                 for answer, want in zip(ask(model, self.pictures, self.rows), self.wanted, strict=True)]
        result = {"questions": len(right), "right": sum(right), "accuracy": sum(right) / len(right)}
        if self.kinds:
            by_kind = collections.defaultdict(list)
            for kind, ok in zip(self.kinds, right, strict=True):
                by_kind[kind].append(ok)
            result["by_kind"] = {kind: sum(by_kind[kind]) / len(by_kind[kind])
                                 for kind in questions.NAMES if by_kind[kind]}
        return result
