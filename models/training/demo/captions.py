"""Captions of a scene: written, read back, and told true from false.

A caption names every kind of thing, a kind being colour and shape, with its number: "two red circles
and a blue rectangle". Kinds come in one order, by shape and then by colour, so a scene has one caption.
A phrase may leave its colour or shape open ("three circles", "two red shapes"): it counts what fits.
"""

import collections
import dataclasses
import itertools

from .questions import PLURALS
from .scenes import COLORS, SHAPES

NUMBERS = dict(enumerate(("a", "two", "three", "four", "five", "six"), 1))
MOST = max(NUMBERS)
# What may stand before a caption: given to the captioner, it goes on from there.
PROMPTS = ("a picture of", "an image of", "a photo of", "a drawing of", "the picture shows", "there is")
# Five kinds and the stop token are the 20 tokens that the library's `generate` writes by default.
NAMED = 5
WORDS = frozenset(f"{' '.join(NUMBERS.values())} {' '.join(PROMPTS)} an and more shape shapes".split())


@dataclasses.dataclass(frozen=True)
class Phrase:
    """`count` things of a colour and a shape, either of which may be open (`None`).

    With `more` it counts what the phrases before it left out.
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
        color, shape = kind
        return self.color in (None, color) and self.shape in (None, shape)


def kinds(scene):
    """How many things of each (colour, shape) a scene has."""
    return collections.Counter((thing.color, thing.shape) for thing in scene.things)


def rank(phrase):
    """Where a phrase stands in a caption. Numbers have no say: whoever writes the first phrase need not have
    counted everything else."""
    shapes, colors = (*SHAPES, None), (*COLORS, None)
    return phrase.more, shapes.index(phrase.shape), colors.index(phrase.color)


def phrases(found):
    """The phrases of the one caption of `kinds`; past `NAMED` kinds the last ones are only counted."""
    every = sorted((Phrase(count, *kind) for kind, count in found.items()), key=rank)
    if len(every) <= NAMED:
        return every
    rest = sum(phrase.count for phrase in every[NAMED - 1 :])
    return [*every[: NAMED - 1], Phrase(rest, more=True)]


def write(some):
    """Phrases as one text: commas, and "and" before the last."""
    *first, last = map(str, some)
    return f"{', '.join(first)} and {last}" if first else last


def read(text):
    """The phrases of a text, or ValueError where it is none that `write` would write."""
    some = [_read_phrase(part) for part in text.replace(" and ", ", ").split(", ")]
    if write(some) != text:
        raise ValueError(f"not a caption: {text}")
    return some


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


def number_of(phrase, found):
    """How many things of a scene with these `kinds` a phrase speaks of."""
    return sum(count for kind, count in found.items() if phrase.fits(kind))


def true(some, found):
    """Whether every phrase holds of a scene with these `kinds`."""
    named = [phrase for phrase in some if not phrase.more]
    unnamed = {kind: count for kind, count in found.items() if not any(phrase.fits(kind) for phrase in named)}
    return all(number_of(phrase, unnamed if phrase.more else found) == phrase.count for phrase in some)


def complete(some, found):
    """Whether the phrases count every thing once: nothing in the scene goes unsaid."""
    return sum(phrase.count for phrase in some) == sum(found.values())


def _with_other_color(phrase, found, rng):
    present = [color for color, _ in found]
    return dataclasses.replace(phrase, color=rng.choice(present if rng.random() < 0.5 else list(COLORS)))


def _with_other_shape(phrase, found, rng):
    present = [shape for _, shape in found]
    return dataclasses.replace(phrase, shape=rng.choice(present if rng.random() < 0.5 else SHAPES))


def _with_other_number(phrase, _found, rng):
    near = [count for count in (phrase.count - 1, phrase.count + 1) if count in NUMBERS]
    return dataclasses.replace(phrase, count=rng.choice(near))


CHANGES = {"color": _with_other_color, "shape": _with_other_shape, "number": _with_other_number}


def one_word_wrong(some, found, change, rng):
    """The same phrases with one word of one changed (a noun keeps to its number), so that they are
    false of the scene: its color, shape or number. Half of the new colours and shapes are borrowed
    from the scene, so that no word alone gives the change away. `None` if the text allows none.
    """
    for _ in range(20):
        place = rng.randrange(len(some))
        old = some[place]
        if change != "number" and getattr(old, change) is None:
            continue
        new = CHANGES[change](old, found, rng)
        changed = [*some[:place], new, *some[place + 1 :]]
        twice = len({(p.color, p.shape) for p in changed}) < len({(p.color, p.shape) for p in some})
        if not twice and not true(changed, found):
            return changed
    return None


def some_truth(found, rng):
    """Phrases that hold of a scene, as people would look for it: its caption, some of it in any order,
    or a count that leaves colour or shape open."""
    form = rng.random()
    if form < 0.4:
        return phrases(found)
    every = [Phrase(count, *kind) for kind, count in found.items()]
    if form < 0.8:
        return rng.sample(every, rng.randint(1, len(every)))
    color, shape = rng.choice(list(found))
    some = rng.choice((Phrase(MOST, color), Phrase(MOST, None, shape), Phrase(MOST)))
    return [dataclasses.replace(some, count=number_of(some, found))]


def in_order(some):
    return sorted(some, key=rank)
