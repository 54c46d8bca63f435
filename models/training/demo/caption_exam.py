"""Asks a captioner for captions and tells whether they are right, and whether they are true."""

import collections

import torch

from . import captions, evaluation


@torch.no_grad()
def describe(model, pictures, total, prompt=(), batch=250):
    """An `evaluation.Answer` for each of `total` pictures, by the library's own `generate` and its own
    default length. `pictures` maps a slice to pixel values; `prompt` is token ids without special ones.
    """
    text = model.config.text_config
    answers = []
    for start in range(0, total, batch):
        images = pictures(slice(start, min(start + batch, total)))
        given = {}
        if prompt:
            # `generate` puts its start token in place of the first and drops the last.
            given["input_ids"] = torch.tensor([[text.bos_token_id, *prompt, text.sep_token_id]]).repeat(len(images), 1)
        out = model.generate(pixel_values=images, return_dict_in_generate=True, output_logits=True, **given)
        answers += evaluation.answers_of(out, 1 + len(prompt), text.sep_token_id)
    return answers


def take(model, gallery, encoder, prompts=("",)):
    """Shares of a gallery's captions that are exactly the scene's, that are true of it, and that are
    true and leave nothing out; also by how many things there are. A text that is no caption is not true.
    Pictures take turns at the prompts.
    """
    tally = collections.Counter()
    for turn, prompt in enumerate(prompts):
        part = gallery.every(len(prompts), turn)
        ids = encoder.tokenizer.encode(prompt, add_special_tokens=False).ids
        for answer, found in zip(describe(model, part.images, len(part), ids), part.kinds, strict=True):
            mark(tally, encoder.decode(answer.ids[:-1]), found)
    total = len(gallery)
    shares = {f"{name}_rate": tally[name] / total for name in ("exact", "true", "complete")}
    by_things = {str(n): tally["true", n] / tally["things", n] for n in captions.NUMBERS if tally["things", n]}
    return {
        "captions": total,
        "exact": tally["exact"],
        "true": tally["true"],
        **shares,
        "not_captions": tally["not a caption"],
        "true_rate_by_things": by_things,
    }


def mark(tally, text, found):
    """Adds to a tally what one caption is worth for a scene with these `captions.kinds`."""
    things = sum(found.values())
    tally["things", things] += 1
    try:
        some = captions.read(text)
    except ValueError:
        tally["not a caption"] += 1
        return
    true = captions.true(some, found)
    tally["exact"] += some == captions.phrases(found)
    tally["true"] += true
    tally["true", things] += true
    tally["complete"] += true and captions.complete(some, found)
