"""What a batch of a model of true size costs, compared with the committed counts.

Any change fails. After an intended one, `UPDATE_COUNTS=1` writes the new counts.
"""

import json
import os
from pathlib import Path

import pytest
from engine import question
from trace import counts

TABLE = Path(__file__).with_name("counts.json")


def one_question_each(images, **options):
    return [question(index, **options) for index in range(len(images))]


def unequal_lengths(images):
    return [question(index, tokens=5 + index % 12) for index in range(len(images))]


def measure(engine):
    """Returns the counts of each batch. A batch runs once before it is measured."""
    found = {}

    def batch(name, images, questions):
        engine.answer(images(), questions(images()))
        numbers = images()
        engine.answer(numbers, questions(numbers), name)
        found[name] = counts(engine.trace.events(name))

    for count in (1, 8, 128):
        batch(f"{count} new images, one question each", lambda: engine.new_images(count), one_question_each)
    batch("16 new images, unequal lengths", lambda: engine.new_images(16), unequal_lengths)
    same = engine.new_images(128)
    # The cache of keys and values admits an image after several uses.
    for _ in range(8):
        engine.answer(same, [question(index // 6) for index in range(768)])
    batch("128 cached images, six questions each", lambda: same, lambda _: [question(row // 6) for row in range(768)])
    batch("2 cached images, four questions each", lambda: same[:2], lambda _: [question(row // 4) for row in range(8)])
    batch("1 cached image, one question", lambda: same[:1], one_question_each)
    return found


def test_answers_of_as_many_tokens_as_earlier_ones_wait_once(start):
    engine = start(graphs=True)
    images = engine.new_images(1)

    def waits(name):
        engine.answer(images, [question(0, max_new_tokens=3)], name)
        return counts(engine.trace.events(name))["waits"]

    waits("new")
    # The stop token never comes on the stand-in, so answers end at their limit.
    found = [waits(f"batch {index}") for index in range(33)]
    assert found[:31] == [2] * 31 and found[-1] == 1
    assert engine.trace.faults() == {}
    assert engine.stop() == ""


@pytest.mark.parametrize(("name", "graphs"), [("plain", False), ("graphs", True)])
def test_counts_of_batches_do_not_rise(start, base_model, name, graphs):
    engine = start(base_model, graphs=graphs)
    assert engine.is_loaded, engine.stderr_path.read_text()
    found = measure(engine)
    assert engine.trace.faults() == {}
    assert engine.stop() == ""
    committed = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    if os.environ.get("UPDATE_COUNTS"):
        committed[name] = found
        TABLE.write_text(json.dumps(committed, indent=2) + "\n")
    assert found == committed[name], "the counts of batches changed"
