"""The image-text matching network: initialization and its three losses."""

import math

import torch
from torch import nn
from torch.nn import functional
from transformers import BlipForImageTextRetrieval

from ..data.scenes import COLORS, SHAPES
from ..data.text_tokenizer import padded, split_by_length
from . import weight_transfer


def build(source, source_entries, entries, stop):
    """Returns a matching model with the vision and text encoders of `source`.

    Projections and matching head are new.
    """
    model = BlipForImageTextRetrieval(weight_transfer.configuration(source, len(entries), stop))
    weight_transfer.copy_weights(source, source_entries, model, model.text_encoder, entries)
    return model


class KindCounter(nn.Module):
    """An auxiliary head on the first vision token, which counts the things of every kind.

    The answering model never reads this token, so that it initially encodes little of the image.
    """

    MAX_COUNT = 3  # higher counts become three

    def __init__(self, width):
        super().__init__()
        self.head = nn.Linear(width, len(SHAPES) * len(COLORS) * (self.MAX_COUNT + 1))

    @classmethod
    def targets(cls, kinds):
        """Returns counts [n, shapes * colours] for a list of `captions.kinds`."""
        counts = torch.zeros(len(kinds), len(COLORS), len(SHAPES), dtype=torch.long)
        names = list(COLORS)
        for row, scene_kinds in enumerate(kinds):
            for (color, shape), count in scene_kinds.items():
                counts[row, names.index(color), SHAPES.index(shape)] = min(count, cls.MAX_COUNT)
        return counts.flatten(1)

    def loss(self, token, counts):
        """Returns the cross-entropy of the counts, summed over kinds. `token` is [n, width]."""
        logits = self.head(token).float().view(len(token), counts.shape[1], -1)
        total = functional.cross_entropy(logits.flatten(0, 1), counts.flatten(), reduction="sum")
        return total / len(token)


class LogitScale(nn.Module):
    """The trained factor of the cosines. It is not part of the model."""

    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self):
        return self.log.exp().clamp(max=100)


def first_states(model, rows, image_embeds=None, owners=None, parts=4):
    """Returns the text encoder's state of each row's first token: [rows, width].

    With `image_embeds` [n, tokens, width], each row attends to its image `owners[row]`.
    """
    order, states = [], []
    for part in split_by_length(rows, parts):
        ids = padded([rows[index] for index in part])
        images = None if image_embeds is None else image_embeds[[owners[index] for index in part]]
        out = model.text_encoder(
            input_ids=ids, attention_mask=(ids != 0).long(), encoder_hidden_states=images
        )
        states.append(out.last_hidden_state[:, 0])
        order += part
    return torch.cat(states)[torch.tensor(order).argsort()]


def matching_loss(model, image_embeds, rows, owners, truth):
    """Returns the mean cross-entropy of the matching head for rows and their images."""
    states = first_states(model, rows, image_embeds, owners)
    return functional.cross_entropy(model.itm_head(states).float(), truth)


def contrastive_loss(model, image_embeds, rows, same, scale):
    """Returns the contrastive loss between images and captions, averaged over both directions.

    `rows` holds a caption for each of n images, then texts that belong to no image. `same` [n, n]
    marks images with equal captions, which count as correct.
    """
    states = first_states(model, rows)
    images = functional.normalize(model.vision_proj(image_embeds[:, 0]).float(), dim=-1)
    texts = functional.normalize(model.text_proj(states).float(), dim=-1)
    logits = scale * images @ texts.t()
    total = len(images)
    correct = logits[:, :total].masked_fill(~same, -torch.inf)
    to_text = logits.logsumexp(1) - correct.logsumexp(1)
    to_image = logits[:, :total].logsumexp(0) - correct.logsumexp(0)
    return (to_text.mean() + to_image.mean()) / 2
