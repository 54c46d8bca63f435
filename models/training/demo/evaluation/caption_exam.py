"""Measures whether the captions of a captioning model are exact, true and complete."""

import collections

import torch

from ..data import captions
from . import generation


@torch.no_grad()
def generate(model, images, total, prompt=(), batch=250):
    """Returns a `generation.Answer` for each of `total` images, with the default length limit.

    `images` maps a slice to pixel values. `prompt` holds token ids without special tokens.
    """
    text = model.config.text_config
    answers = []
    for start in range(0, total, batch):
        pixel_values = images(slice(start, min(start + batch, total)))
        inputs = {}
        if prompt:
            # `generate` replaces the first token by its start token and drops the last one.
            row = torch.tensor([[text.bos_token_id, *prompt, text.sep_token_id]])
            inputs["input_ids"] = row.repeat(len(pixel_values), 1)
        out = model.generate(
            pixel_values=pixel_values, return_dict_in_generate=True, output_logits=True, **inputs
        )
        answers += generation.answers_of(out, 1 + len(prompt), text.sep_token_id)
    return answers


def take(model, scene_set, tokenizer, prompts=("",)):
    """Returns the fractions of captions that are exact, true, and complete.

    A complete caption is true and names everything. A text that is not a caption counts as not
    true. The true fraction is also reported by number of things. The prompts are used in turn.
    """
    counts = collections.Counter()
    for turn, prompt in enumerate(prompts):
        part = scene_set.every(len(prompts), turn)
        ids = tokenizer.wordpiece.encode(prompt, add_special_tokens=False).ids
        for answer, scene_kinds in zip(generate(model, part.images, len(part), ids), part.kinds, strict=True):
            count_caption(counts, tokenizer.decode(answer.ids[:-1]), scene_kinds)
    total = len(scene_set)
    rates = {f"{name}_rate": counts[name] / total for name in ("exact", "true", "complete")}
    by_things = {
        str(n): counts["true", n] / counts["things", n] for n in captions.NUMBERS if counts["things", n]
    }
    return {
        "captions": total,
        "exact": counts["exact"],
        "true": counts["true"],
        **rates,
        "not_captions": counts["not a caption"],
        "true_rate_by_things": by_things,
    }


def count_caption(counts, text, scene_kinds):
    """Adds the result of one caption to `counts`."""
    things = sum(scene_kinds.values())
    counts["things", things] += 1
    try:
        phrases = captions.read(text)
    except ValueError:
        counts["not a caption"] += 1
        return
    is_true = captions.is_true(phrases, scene_kinds)
    counts["exact"] += phrases == captions.phrases(scene_kinds)
    counts["true"] += is_true
    counts["true", things] += is_true
    counts["complete"] += is_true and captions.is_complete(phrases, scene_kinds)
