"""The grammar of captions, on many random scenes."""

import random

import pytest

from . import captions, scenes
from .captions import Phrase


def many(total=400):
    rng = random.Random("captions")
    return [captions.kinds(scenes.sample(rng)) for _ in range(total)]


def test_a_caption_reads_as_people_write():
    assert captions.write([Phrase(2, "red", "circle"), Phrase(1, "orange", "cross")]) == "two red circles and an orange cross"
    assert captions.write([Phrase(1, "red", "ring")] * 3) == "a red ring, a red ring and a red ring"
    assert str(Phrase(2, more=True)) == "two more shapes"


def test_reading_gives_back_what_was_written():
    for found in many():
        some = captions.phrases(found)
        assert captions.read(captions.write(some)) == some


@pytest.mark.parametrize("text", ["", "two red circle", "an red circle", "a red circle, a ring", "red circle", "two more"])
def test_what_nobody_would_write_is_refused(text):
    with pytest.raises(ValueError):
        captions.read(text)


def test_the_caption_of_a_scene_is_true_and_leaves_nothing_out():
    for found in many():
        some = captions.phrases(found)
        assert captions.true(some, found) and captions.complete(some, found)
        assert some == captions.in_order(some)


def test_a_caption_and_its_stop_token_fit_the_default_length():
    for found in many():
        words = captions.write(captions.phrases(found)).replace(",", " ,").split()
        assert len(words) + 1 <= 20


def test_a_sixth_kind_is_only_counted():
    found = {("red", shape): 1 for shape in scenes.SHAPES}
    assert captions.write(captions.phrases(found)).endswith(" and two more shapes")
    assert captions.true(captions.phrases(found), found)


def test_a_number_that_is_off_by_one_is_false():
    found = {("red", "circle"): 2, ("blue", "ring"): 1}
    assert captions.true(captions.read("two red circles"), found)
    assert captions.true(captions.read("three shapes"), found)
    assert not captions.true(captions.read("a red circle"), found)
    assert not captions.true(captions.read("a red circle and two more shapes"), found)


def test_one_changed_word_makes_a_caption_false():
    rng = random.Random(1)
    made = 0
    for found in many():
        some = captions.phrases(found)
        for change in captions.CHANGES:
            wrong = captions.one_word_wrong(some, found, change, rng)
            if wrong is None:
                continue
            made += 1
            differing = [(a, b) for a, b in zip(some, wrong, strict=True) if a != b]
            assert len(differing) == 1
            assert not captions.true(wrong, found)
            assert captions.read(captions.write(wrong)) == wrong
    assert made > 1100


def test_what_is_looked_for_is_true():
    rng = random.Random(2)
    for found in many():
        assert captions.true(captions.some_truth(found, rng), found)
