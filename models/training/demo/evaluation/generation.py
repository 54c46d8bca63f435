"""Answers questions with `generate`, each as if it were asked alone."""

import collections
import dataclasses

import torch

MAX_NEW_TOKENS = 20


@dataclasses.dataclass(frozen=True)
class Answer:
    """A generated sequence.

    `ids` are the token ids after the start token, stop token included. `score` is the sum of their
    log-probabilities. `margin` is the smallest lead, in logits, of a chosen token over the next
    best.
    """

    ids: tuple
    score: float
    margin: float


def answers_of(out, start_tokens, stop):
    """Returns the `Answer` of each row of a `generate` result that has `output_logits`.

    The first `start_tokens` tokens of a sequence are not part of the answer.
    """
    steps = torch.stack(out.logits, 1).double()
    chosen = out.sequences[:, start_tokens:]
    best = steps.topk(2, -1).values
    logp = steps.log_softmax(-1).gather(-1, chosen[..., None])[..., 0]
    answers = []
    for row, ids in enumerate(chosen.tolist()):
        length = ids.index(stop) + 1 if stop in ids else len(ids)
        margin = (best[row, :length, 0] - best[row, :length, 1]).min()
        answers.append(Answer(tuple(ids[:length]), float(logp[row, :length].sum()), float(margin)))
    return answers


@torch.no_grad()
def ask(model, images, rows, batch=512):
    """Returns the answers to `rows`, pairs of (image index, question ids without padding).

    `images` maps a list of indices to pixel values [n, 3, side, side]. Questions of equal length
    share a batch. So nothing is padded, and each question gets the answer that it gets alone.
    """
    stop = model.config.text_config.sep_token_id
    by_length = collections.defaultdict(list)
    for position, (_, ids) in enumerate(rows):
        by_length[len(ids)].append(position)
    answers = [None] * len(rows)
    for _, positions in sorted(by_length.items()):
        for start in range(0, len(positions), batch):
            part = positions[start : start + batch]
            pixel_values = images([rows[p][0] for p in part]).to(model.device)
            question_ids = torch.tensor([rows[p][1] for p in part], device=model.device)
            out = model.generate(
                input_ids=question_ids,
                pixel_values=pixel_values,
                max_new_tokens=MAX_NEW_TOKENS,
                return_dict_in_generate=True,
                output_logits=True,
            )
            for position, answer in zip(part, answers_of(out, 1, stop), strict=True):
                answers[position] = answer
    return answers
