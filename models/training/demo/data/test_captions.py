"""Tests the grammar of captions on many random scenes."""

import random

import pytest

from . import captions, scenes
from .captions import Phrase


def random_scene_kinds(total=400):
    rng = random.Random("captions")
    return [captions.kinds(scenes.sample(rng)) for _ in range(total)]


def test_write_phrases_joins_commas_and_and():
    assert (
        captions.write([Phrase(2, "red", "circle"), Phrase(1, "orange", "cross")])
        == "two red circles and an orange cross"
    )
    assert captions.write([Phrase(1, "red", "ring")] * 3) == "a red ring, a red ring and a red ring"
    assert str(Phrase(2, more=True)) == "two more shapes"


def test_read_written_caption_returns_same_phrases():
    for scene_kinds in random_scene_kinds():
        phrases = captions.phrases(scene_kinds)
        assert captions.read(captions.write(phrases)) == phrases


@pytest.mark.parametrize(
    "text", ["", "two red circle", "an red circle", "a red circle, a ring", "red circle", "two more"]
)
def test_read_invalid_text_raises_value_error(text):
    with pytest.raises(ValueError):
        captions.read(text)


def test_caption_of_scene_is_true_and_complete():
    for scene_kinds in random_scene_kinds():
        phrases = captions.phrases(scene_kinds)
        assert captions.is_true(phrases, scene_kinds) and captions.is_complete(phrases, scene_kinds)
        assert phrases == captions.in_order(phrases)


def test_caption_with_stop_token_fits_default_length():
    for scene_kinds in random_scene_kinds():
        words = captions.write(captions.phrases(scene_kinds)).replace(",", " ,").split()
        assert len(words) + 1 <= 20


def test_caption_of_six_kinds_counts_the_last_two():
    scene_kinds = {("red", shape): 1 for shape in scenes.SHAPES}
    assert captions.write(captions.phrases(scene_kinds)).endswith(" and two more shapes")
    assert captions.is_true(captions.phrases(scene_kinds), scene_kinds)


def test_caption_number_off_by_one_is_false():
    scene_kinds = {("red", "circle"): 2, ("blue", "ring"): 1}
    assert captions.is_true(captions.read("two red circles"), scene_kinds)
    assert captions.is_true(captions.read("three shapes"), scene_kinds)
    assert not captions.is_true(captions.read("a red circle"), scene_kinds)
    assert not captions.is_true(captions.read("a red circle and two more shapes"), scene_kinds)


def test_caption_with_one_changed_word_is_false():
    rng = random.Random(1)
    made = 0
    for scene_kinds in random_scene_kinds():
        phrases = captions.phrases(scene_kinds)
        for change in captions.CHANGES:
            wrong = captions.one_word_wrong(phrases, scene_kinds, change, rng)
            if wrong is None:
                continue
            made += 1
            differing = [(a, b) for a, b in zip(phrases, wrong, strict=True) if a != b]
            assert len(differing) == 1
            assert not captions.is_true(wrong, scene_kinds)
            assert captions.read(captions.write(wrong)) == wrong
    assert made > 1100


def test_random_truth_is_true():
    rng = random.Random(2)
    for scene_kinds in random_scene_kinds():
        assert captions.is_true(captions.random_truth(scene_kinds, rng), scene_kinds)
