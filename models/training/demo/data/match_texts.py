"""Texts about scenes: true texts, false texts that differ in one word, and their token rows."""

from . import captions
from .text_tokenizer import padded


def text_of(phrases, rng):
    """Returns phrases as a text. A quarter of the texts begin with a prompt."""
    text = captions.write(phrases)
    return f"{rng.choice(captions.PROMPTS)} {text}" if rng.random() < 0.25 else text


def falsified(phrases, scene_kinds, rng, change=None):
    """Returns phrases that differ in one word and are false for the scene, or None.

    Phrases in caption order stay in caption order, so that the order carries no information.
    """
    for kind in rng.sample(list(captions.CHANGES), len(captions.CHANGES)) if change is None else (change,):
        wrong = captions.one_word_wrong(phrases, scene_kinds, kind, rng)
        if wrong is not None:
            return captions.in_order(wrong) if phrases == captions.in_order(phrases) else wrong
    return None


def pairs(scene_kinds, amount, rng):
    """Returns `amount` pairs (text, 1 if true else 0) for a scene. Every other text is false."""
    result = []
    while len(result) < amount:
        right = captions.random_truth(scene_kinds, rng)
        wrong = falsified(right, scene_kinds, rng)
        if wrong is not None:
            result += [(text_of(right, rng), 1), (text_of(wrong, rng), 0)]
    return result[:amount]


def caption_pair(scene_kinds, rng):
    """Returns the caption and a false variant of it, or None for the latter.

    The phrases of some captions are shuffled.
    """
    right = captions.phrases(scene_kinds)
    if rng.random() < 0.3 and not right[-1].more:
        right = rng.sample(right, len(right))
    wrong = falsified(right, scene_kinds, rng)
    return text_of(right, rng), wrong and text_of(wrong, rng)


def rows(tokenizer, texts):
    """Returns the token ids of each text: `[CLS] text [SEP]`."""
    return [encoding.ids for encoding in tokenizer.wordpiece.encode_batch(list(texts))]


def batch(tokenizer, texts):
    """Returns (token ids, mask), both [texts, tokens]."""
    ids = padded(rows(tokenizer, texts))
    return ids, (ids != 0).long()
