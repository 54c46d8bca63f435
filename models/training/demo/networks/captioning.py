"""The captioning network: initialization, training rows and loss."""

import random

from torch.nn import functional
from transformers import BlipForConditionalGeneration

from ..data import captions
from ..data.text_tokenizer import padded, split_by_length
from . import weight_transfer


def build(source, source_entries, entries, stop):
    """Returns a captioning model with the vision encoder of `source`.

    The decoder is initialized from the text encoder of `source`.
    """
    model = BlipForConditionalGeneration(weight_transfer.configuration(source, len(entries), stop))
    weight_transfer.copy_weights(source, source_entries, model, model.text_decoder.bert, entries)
    return model


class CaptionRows:
    """Token rows of captions, with or without a prompt: `[DEC] prompt caption [SEP]`.

    The targets of prompt tokens are 0, because the model does not learn to generate prompts.
    """

    def __init__(self, tokenizer, kinds):
        tokens = tokenizer.wordpiece
        self.start, self.stop = tokenizer.start, tokenizer.stop
        self.prompts = [tokens.encode(text, add_special_tokens=False).ids for text in captions.PROMPTS]
        texts = [captions.write(captions.phrases(scene_kinds)) for scene_kinds in kinds]
        self.captions = [encoding.ids for encoding in tokens.encode_batch(texts, add_special_tokens=False)]

    def sample(self, indices, rng=random):
        """Returns (input, target) of each image, lists of equal length. Half have no prompt."""
        rows = []
        for index in indices:
            prompt = rng.choice(self.prompts) if rng.random() < 0.5 else []
            caption = self.captions[index]
            rows.append(([self.start, *prompt, *caption], [0] * len(prompt) + [*caption, self.stop]))
        return rows


def loss(model, image_embeds, rows, parts=4):
    """Returns the mean cross-entropy of the caption tokens.

    image_embeds has the shape [n, tokens, width]. `rows` are those of `CaptionRows.sample`. Padding
    follows the caption and the decoder is causal, so that no mask is needed.
    """
    total = sum(sum(map(bool, target)) for _, target in rows)
    losses = []
    for part in split_by_length([target for _, target in rows], parts):
        inputs, targets = (padded([rows[index][side] for index in part]) for side in (0, 1))
        logits = model.text_decoder(
            input_ids=inputs, encoder_hidden_states=image_embeds[part], use_cache=False
        ).logits
        losses.append(
            functional.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten(), ignore_index=0, reduction="sum"
            )
        )
    return sum(losses) / total
