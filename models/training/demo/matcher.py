"""The matching network: made from the demo, and the three losses that it learns by."""

import torch
from torch import nn
from torch.nn import functional
from transformers import BlipForImageTextRetrieval

from . import inheritance
from .scenes import COLORS, SHAPES
from .training import by_length, padded


def build(demo, old_entries, entries, stop):
    """A matcher with the demo's tower and text encoder; projections and head are fresh."""
    model = BlipForImageTextRetrieval(inheritance.configuration(demo, len(entries), stop))
    inheritance.take_over(demo, old_entries, model, model.text_encoder, entries)
    return model


class KindCounter(nn.Module):
    """What the tower's first token is taught beside matching: how many of every kind there are.

    The demo never reads that token, so it begins knowing little of the picture as a whole.
    """

    MOST = 3  # further ones count as three

    def __init__(self, width):
        super().__init__()
        self.head = nn.Linear(width, len(SHAPES) * len(COLORS) * (self.MOST + 1))

    @classmethod
    def targets(cls, kinds):
        """[n, shapes * colours] of counts, for a list of `captions.kinds`."""
        counts = torch.zeros(len(kinds), len(COLORS), len(SHAPES), dtype=torch.long)
        names = list(COLORS)
        for row, found in enumerate(kinds):
            for (color, shape), count in found.items():
                counts[row, names.index(color), SHAPES.index(shape)] = min(count, cls.MOST)
        return counts.flatten(1)

    def loss(self, token, counts):
        """token [n, width]; the cross-entropy of each picture's counts, summed over kinds."""
        logits = self.head(token).float().view(len(token), counts.shape[1], -1)
        each = functional.cross_entropy(logits.flatten(0, 1), counts.flatten(), reduction="sum")
        return each / len(token)


def first_states(model, rows, image_embeds=None, owners=None, parts=4):
    """What the text encoder makes of each row's first token, [rows, width]; with the sight of the picture
    that owns the row, where there are pictures, [n, tokens, width]."""
    order, states = [], []
    for part in by_length(rows, parts):
        ids = padded([rows[index] for index in part])
        seen = None if image_embeds is None else image_embeds[[owners[index] for index in part]]
        out = model.text_encoder(input_ids=ids, attention_mask=(ids != 0).long(), encoder_hidden_states=seen)
        states.append(out.last_hidden_state[:, 0])
        order += part
    return torch.cat(states)[torch.tensor(order).argsort()]


def matching_loss(model, image_embeds, rows, owners, truth):
    """The matching head's mean cross-entropy: whether each row of `rows` holds of its picture."""
    states = first_states(model, rows, image_embeds, owners)
    return functional.cross_entropy(model.itm_head(states).float(), truth)


def contrastive_loss(model, image_embeds, rows, same, scale):
    """Both ways between pictures and captions.

    `rows`: a caption for each of n pictures, then texts that are no picture's.
    `same` [n, n] tells which pictures have equal captions: those are right as well.
    """
    states = first_states(model, rows)
    pictures = functional.normalize(model.vision_proj(image_embeds[:, 0]).float(), dim=-1)
    words = functional.normalize(model.text_proj(states).float(), dim=-1)
    logits = scale * pictures @ words.t()
    total = len(pictures)
    among = logits[:, :total].masked_fill(~same, -torch.inf)
    to_text = logits.logsumexp(1) - among.logsumexp(1)
    to_picture = logits[:, :total].logsumexp(0) - among.logsumexp(0)
    return (to_text.mean() + to_picture.mean()) / 2
