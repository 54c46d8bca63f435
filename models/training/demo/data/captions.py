"""Captions of a scene: writes them, parses them and checks whether they are true.

A caption names every kind of thing with its number: "two red circles and a blue rectangle". A kind
is a colour and a shape. Kinds are ordered by shape, then by colour, so that a scene has exactly one
caption. A phrase may leave colour or shape open ("three circles", "two red shapes"). It then counts
all things that fit.
"""

import collections
import dataclasses
import itertools

from .questions import PLURALS
from .scenes import COLORS, SHAPES

NUMBERS = dict(enumerate(("a", "two", "three", "four", "five", "six"), 1))
MAX_NUMBER = max(NUMBERS)
# Prompts that may precede a caption. The captioning model continues them.
PROMPTS = ("a picture of", "an image of", "a photo of", "a drawing of", "the picture shows", "there is")
# Five kinds and the stop token fit the default length of `generate`, 20 tokens.
MAX_KINDS = 5
WORDS = frozenset(f"{' '.join(NUMBERS.values())} {' '.join(PROMPTS)} an and more shape shapes".split())


@dataclasses.dataclass(frozen=True)
class Phrase:
    """`count` things of a colour and a shape, either of which may be open (None).

    With `more`, the phrase counts the things that the phrases before it do not name.
    """

    count: int
    color: str | None = None
    shape: str | None = None
    more: bool = False

    def __str__(self):
        noun = self.shape or "shape"
        if self.count != 1:
            noun = PLURALS.get(noun, noun + "s")
        words = [word for word in ("more" if self.more else None, self.color, noun) if word]
        number = NUMBERS[self.count]
        if number == "a" and words[0][0] in "aeiou":
            number = "an"
        return " ".join((number, *words))

    def fits(self, kind):
        """Returns whether a kind has the colour and shape of the phrase."""
        color, shape = kind
        return self.color in (None, color) and self.shape in (None, shape)


def kinds(scene):
    """Returns the number of things of each (colour, shape) in a scene."""
    return collections.Counter((thing.color, thing.shape) for thing in scene.things)


def rank(phrase):
    """Returns the sort key of a phrase in a caption. It does not depend on numbers.

    So a model can write the first phrase before it has counted everything else.
    """
    shapes, colors = (*SHAPES, None), (*COLORS, None)
    return phrase.more, shapes.index(phrase.shape), colors.index(phrase.color)


def phrases(scene_kinds):
    """Returns the phrases of the caption.

    Beyond MAX_KINDS kinds, the last ones are only counted.
    """
    every = sorted((Phrase(count, *kind) for kind, count in scene_kinds.items()), key=rank)
    if len(every) <= MAX_KINDS:
        return every
    rest = sum(phrase.count for phrase in every[MAX_KINDS - 1 :])
    return [*every[: MAX_KINDS - 1], Phrase(rest, more=True)]


def write(phrase_list):
    """Returns phrases as one text, joined by commas and a final "and"."""
    *first, last = map(str, phrase_list)
    return f"{', '.join(first)} and {last}" if first else last


def read(text):
    """Returns the phrases of a text. Raises ValueError if `write` cannot produce the text."""
    phrase_list = [_read_phrase(part) for part in text.replace(" and ", ", ").split(", ")]
    if write(phrase_list) != text:
        raise ValueError(f"not a caption: {text}")
    return phrase_list


_PHRASES = {
    str(phrase): phrase
    for phrase in itertools.chain(
        itertools.starmap(Phrase, itertools.product(NUMBERS, (None, *COLORS), (None, *SHAPES))),
        (Phrase(count, more=True) for count in NUMBERS),
    )
}


def _read_phrase(text):
    if text not in _PHRASES:
        raise ValueError(f"not a phrase: {text}")
    return _PHRASES[text]


def number_of(phrase, scene_kinds):
    """Returns the number of things in a scene that fit a phrase."""
    return sum(count for kind, count in scene_kinds.items() if phrase.fits(kind))


def is_true(phrase_list, scene_kinds):
    """Returns whether every phrase is true for a scene."""
    named = [phrase for phrase in phrase_list if not phrase.more]
    unnamed = {
        kind: count for kind, count in scene_kinds.items() if not any(phrase.fits(kind) for phrase in named)
    }
    return all(
        number_of(phrase, unnamed if phrase.more else scene_kinds) == phrase.count for phrase in phrase_list
    )


def is_complete(phrase_list, scene_kinds):
    """Returns whether the phrases count as many things as the scene has."""
    return sum(phrase.count for phrase in phrase_list) == sum(scene_kinds.values())


def _with_other_color(phrase, scene_kinds, rng):
    present = [color for color, _ in scene_kinds]
    return dataclasses.replace(phrase, color=rng.choice(present if rng.random() < 0.5 else list(COLORS)))


def _with_other_shape(phrase, scene_kinds, rng):
    present = [shape for _, shape in scene_kinds]
    return dataclasses.replace(phrase, shape=rng.choice(present if rng.random() < 0.5 else SHAPES))


def _with_other_number(phrase, _scene_kinds, rng):
    near = [count for count in (phrase.count - 1, phrase.count + 1) if count in NUMBERS]
    return dataclasses.replace(phrase, count=rng.choice(near))


CHANGES = {"color": _with_other_color, "shape": _with_other_shape, "number": _with_other_number}


def one_word_wrong(phrase_list, scene_kinds, change, rng):
    """Returns the phrases with one word changed so that they are false for the scene, or None.

    `change` names the word: color, shape or number. A noun agrees with its number. Half of the new
    colours and shapes come from the scene, so that no word alone reveals the change.
    """
    for _ in range(20):
        position = rng.randrange(len(phrase_list))
        old = phrase_list[position]
        if change != "number" and getattr(old, change) is None:
            continue
        new = CHANGES[change](old, scene_kinds, rng)
        changed = [*phrase_list[:position], new, *phrase_list[position + 1 :]]
        is_repeated = len({(p.color, p.shape) for p in changed}) < len(
            {(p.color, p.shape) for p in phrase_list}
        )
        if not is_repeated and not is_true(changed, scene_kinds):
            return changed
    return None


def random_truth(scene_kinds, rng):
    """Returns phrases that are true for a scene, similar to a search query.

    They are the caption, some of its phrases in random order, or a count with open colour or shape.
    """
    form = rng.random()
    if form < 0.4:
        return phrases(scene_kinds)
    every = [Phrase(count, *kind) for kind, count in scene_kinds.items()]
    if form < 0.8:
        return rng.sample(every, rng.randint(1, len(every)))
    color, shape = rng.choice(list(scene_kinds))
    phrase = rng.choice((Phrase(MAX_NUMBER, color), Phrase(MAX_NUMBER, None, shape), Phrase(MAX_NUMBER)))
    return [dataclasses.replace(phrase, count=number_of(phrase, scene_kinds))]


def in_order(phrase_list):
    """Returns the phrases in caption order."""
    return sorted(phrase_list, key=rank)
