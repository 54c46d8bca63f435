"""The demo model's vocabulary: every word that its questions and answers use, and the pieces
(letters, digits, punctuation) that spell any other word."""

import random
import re

from . import questions, scenes, wordpiece

# Words that easy-vqa or a curious visitor uses and the sampled questions below may miss.
EXTRA = "yes no photo drawing there here it them this that any some which who why when".split()
EXTRA += [str(number) for number in range(11)]


def entries(more=()):
    """The vocabulary in id order, with the words `more` in it; sampled from the grammar itself, so it cannot
    fall behind it."""
    rng = random.Random(0)
    words = set(EXTRA) | set(scenes.SHAPES) | set(scenes.COLORS) | set(questions.PLURALS.values()) | set(more)
    for _ in range(3000):
        for _, question, answer in questions.ask(scenes.sample(rng), rng, 4):
            words |= set(re.findall(r"[a-z0-9]+", f"{question} {answer}"))
    return wordpiece.vocabulary(sorted(words))
