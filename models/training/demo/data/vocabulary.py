"""The vocabulary of the demo models.

It holds every word of the generated questions and answers. Pieces (letters, digits, punctuation)
spell all other words.
"""

import random
import re

from . import questions, scenes, wordpiece

# Words of easy-vqa and of likely questions that the sampled questions may lack.
EXTRA = "yes no photo drawing there here it them this that any some which who why when".split()
EXTRA += [str(number) for number in range(11)]


def entries(more=()):
    """Returns the vocabulary in id order, with the words `more` included.

    The words are sampled from the question grammar, so that the vocabulary follows the grammar.
    """
    rng = random.Random(0)
    words = set(EXTRA) | set(scenes.SHAPES) | set(scenes.COLORS) | set(questions.PLURALS.values()) | set(more)
    for _ in range(3000):
        for _, question, answer in questions.ask(scenes.sample(rng), rng, 4):
            words |= set(re.findall(r"[a-z0-9]+", f"{question} {answer}"))
    return wordpiece.vocabulary(sorted(words))
