"""The captioning network: made from the demo, and what it learns from."""

import random

from torch.nn import functional
from transformers import BlipForConditionalGeneration

from . import captions, inheritance
from .training import by_length, padded


def build(demo, old_entries, entries, stop):
    """A captioner with the demo's tower; its decoder begins as the demo's text encoder."""
    model = BlipForConditionalGeneration(inheritance.configuration(demo, len(entries), stop))
    inheritance.take_over(demo, old_entries, model, model.text_decoder.bert, entries)
    return model


class CaptionRows:
    """Token rows of captions, each begun by nothing or by a prompt.

    A row is `[DEC] prompt caption [SEP]`. A prompt is given, never learnt: its targets are 0.
    """

    def __init__(self, encoder, kinds):
        tokens = encoder.tokenizer
        self.start, self.stop = encoder.start, encoder.stop
        self.prompts = [tokens.encode(text, add_special_tokens=False).ids for text in captions.PROMPTS]
        texts = [captions.write(captions.phrases(found)) for found in kinds]
        self.captions = [found.ids for found in tokens.encode_batch(texts, add_special_tokens=False)]

    def sample(self, indices, rng=random):
        """(input, target) of each picture, lists of one length; half of them without a prompt."""
        made = []
        for index in indices:
            prompt = rng.choice(self.prompts) if rng.random() < 0.5 else []
            caption = self.captions[index]
            made.append(([self.start, *prompt, *caption], [0] * len(prompt) + [*caption, self.stop]))
        return made


def loss(model, image_embeds, rows, parts=4):
    """Mean cross-entropy of the captions' tokens; image_embeds [n, tokens, width], `rows` as sampled.

    Padding follows the caption and the decoder looks back only, so no mask is needed.
    """
    total = sum(sum(map(bool, target)) for _, target in rows)
    losses = []
    for part in by_length([target for _, target in rows], parts):
        inputs, targets = (padded([rows[index][side] for index in part]) for side in (0, 1))
        logits = model.text_decoder(input_ids=inputs, encoder_hidden_states=image_embeds[part], use_cache=False).logits
        losses.append(functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=0, reduction="sum"))  # fmt: skip
    return sum(losses) / total
