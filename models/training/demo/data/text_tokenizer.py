"""Converts texts to rows of token ids."""

import dataclasses
import functools

import torch

from .wordpiece import build

QUESTION_TOKENS = 28
ANSWER_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class TextTokenizer:
    """The tokenizer of a vocabulary, with the special tokens that BLIP adds to it."""

    entries: tuple

    @functools.cached_property
    def wordpiece(self):
        """The `tokenizers` object of the vocabulary."""
        return build(self.entries)

    @property
    def start(self):
        """The id of [DEC], the first id after the vocabulary, as in BLIP."""
        return len(self.entries)

    @property
    def stop(self):
        """The id of [SEP]."""
        return self.entries.index("[SEP]")

    def question(self, text):
        """Returns QUESTION_TOKENS ids: `[CLS] text [SEP]`, padded with 0."""
        return self._fixed_length(self.wordpiece.encode(text).ids, QUESTION_TOKENS, text)

    def answer(self, text):
        """Returns ANSWER_TOKENS ids: `[DEC] text [SEP]`, padded with 0."""
        inner = self.wordpiece.encode(text, add_special_tokens=False).ids
        return self._fixed_length([self.start, *inner, self.stop], ANSWER_TOKENS, text)

    def decode(self, ids):
        """Returns the text of token ids. Ids after the vocabulary are ignored."""
        return self.wordpiece.decode([i for i in ids if i < self.start])

    @staticmethod
    def _fixed_length(ids, length, text):
        if len(ids) > length:
            raise ValueError(f"text too long: {len(ids)} tokens, at most {length} allowed: {text}")
        return ids + [0] * (length - len(ids))


def padded(rows):
    """Returns lists of token ids as one tensor [rows, longest], padded with 0."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def split_by_length(rows, parts):
    """Returns the indices of `rows` in `parts` lists of about equal size, short rows first.

    Rows of similar length share a batch, so that a batch has little padding.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    size = -(-len(order) // parts)
    return [order[start : start + size] for start in range(0, len(order), size)]
