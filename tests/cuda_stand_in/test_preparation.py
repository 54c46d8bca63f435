"""Everything is compiled and captured when the model is loaded. No batch waits for it."""

import pytest
from engine import random_batches


def compiled(events):
    """Returns the number of plans and captures."""
    return [sum(event.kind == kind for event in events) for kind in ("plan", "capture_begin")]


@pytest.mark.parametrize(
    ("dtype", "capability", "plans"),
    # Where LibTorch prefers cuDNN, a plan for each pass of 16, 8, 4, 2 and 1 images.
    [("f16", 90, 5), ("bf16", 100, 5), ("f32", 90, 0), ("f16", 80, 0), ("f16", 120, 0)],
)
def test_plans_are_built_on_loading_only(start, dtype, capability, plans):
    engine = start(dtype=dtype, capability=capability)
    assert engine.is_loaded, engine.stderr_path.read_text()
    assert compiled(engine.trace.events()) == [plans, 0]
    random_batches(engine, 200)
    assert compiled(engine.trace.events_since("loaded")) == [0, 0]


def test_graphs_are_captured_on_loading_only(start):
    engine = start(graphs=True)
    assert engine.is_loaded, engine.stderr_path.read_text()
    # 5 of images, 5 x 2 of questions, 7 x 2 of decoders, which have two graphs each.
    assert compiled(engine.trace.events()) == [5, 5 + 10 + 28]
    random_batches(engine, 200)
    assert compiled(engine.trace.events_since("loaded")) == [0, 0]


def test_without_cudnn_the_model_loads_and_answers(start):
    engine = start(fail="plan:1:1")
    assert engine.is_loaded, engine.stderr_path.read_text()
    random_batches(engine, 5)
    assert compiled(engine.trace.events()) == [0, 0]
    stderr = engine.stop()
    assert "cuDNN attention not available" in stderr and len(stderr.splitlines()) == 1, stderr
