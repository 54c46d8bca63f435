"""The scene of the bundled image `models/demo/demo.png`."""

import random

from ..data import questions, scenes

SEED = 20_251


def demo_scene():
    """Returns the scene and three (question, answer) pairs about it.

    It is the first scene of its seed with five things of at least four shapes and four colours that
    allows the three kinds of question. The seed is not used in training.
    """
    rng = random.Random(SEED)
    kinds = (questions.count, questions.beside, questions.is_beside)
    pairs = []
    while not all(pairs) or len(pairs) != len(kinds):
        scene = scenes.sample(rng, 5, plain=True)
        variety = min(len({t.shape for t in scene.things}), len({t.color for t in scene.things}))
        if len(scene.things) == 5 and variety >= 4:
            tries = [[kind(scene, rng) for _ in range(40)] for kind in kinds]
            # Counts of zero and one show little of the model.
            pairs = [next((pair for pair in some if pair and pair[1] not in "01"), None) for some in tries]
    return scene, pairs
