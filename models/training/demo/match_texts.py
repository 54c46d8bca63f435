"""Texts for pictures: true ones, false ones that differ in a word, and rows of tokens of them."""

from . import captions
from .training import padded


def worded(some, rng):
    """Phrases as a text, at times begun as people begin one."""
    text = captions.write(some)
    return f"{rng.choice(captions.PROMPTS)} {text}" if rng.random() < 0.25 else text


def falsified(some, found, rng, change=None):
    """Phrases false of the scene by one word; those in a caption's order are kept in it, so that
    the order gives nothing away."""
    for kind in rng.sample(list(captions.CHANGES), len(captions.CHANGES)) if change is None else (change,):
        wrong = captions.one_word_wrong(some, found, kind, rng)
        if wrong is not None:
            return captions.in_order(wrong) if some == captions.in_order(some) else wrong
    return None


def pairs(found, amount, rng):
    """`amount` (text, whether it holds) for a scene, every other one false."""
    made = []
    while len(made) < amount:
        some = captions.some_truth(found, rng)
        wrong = falsified(some, found, rng)
        if wrong is not None:
            made += [(worded(some, rng), 1), (worded(wrong, rng), 0)]
    return made[:amount]


def whole(found, rng):
    """The caption and one made false by a word, or `None` for the latter; at times in another order."""
    some = captions.phrases(found)
    if rng.random() < 0.3 and not some[-1].more:
        some = rng.sample(some, len(some))
    wrong = falsified(some, found, rng)
    return worded(some, rng), wrong and worded(wrong, rng)


def rows(encoder, texts):
    """Token ids of each text: `[CLS] text [SEP]`."""
    return [found.ids for found in encoder.tokenizer.encode_batch(list(texts))]


def batch(encoder, texts):
    """(token ids, mask), both [texts, tokens]."""
    ids = padded(rows(encoder, texts))
    return ids, (ids != 0).long()
