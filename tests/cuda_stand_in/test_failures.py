"""Failures of calls: the class of the error, and what the engine does next."""

import pytest
from engine import question

ILLEGAL_ADDRESS = 700
LAUNCH_FAILURE = 719
OUT_OF_MEMORY = 2
INVALID_VALUE = 1


def batch(engine):
    images = engine.new_images(3)
    return images, [question(index, tokens=5 + index) for index in range(3)]


@pytest.fixture
def first_call(start):
    """A function that returns the number of a call in the second batch.

    It is a call of a kind, in the middle of the batch or the last one.
    """

    def find(kind, *, is_last=False, **options):
        engine = start(**options)
        engine.answer(*batch(engine))
        engine.answer(*batch(engine), "second")
        before = engine.trace.events()
        begin = next(i for i, event in enumerate(before) if (event.kind, event.name) == ("mark", "second"))
        in_batch = sum(event.kind == kind for event in engine.trace.events("second"))
        assert in_batch > 0, f"the batch has no {kind}"
        in_middle = (in_batch + 1) // 2
        return sum(event.kind == kind for event in before[:begin]) + (in_batch if is_last else in_middle)

    return find


@pytest.mark.parametrize("kind", ["kernel", "product", "copy", "wait"])
@pytest.mark.parametrize(("code", "is_last"), [(ILLEGAL_ADDRESS, False), (LAUNCH_FAILURE, False), (LAUNCH_FAILURE, True)])
def test_lost_device_is_fatal_for_this_and_all_later_batches(start, first_call, kind, code, is_last):
    number = first_call(kind, is_last=is_last)
    engine = start(fail=f"{kind}:{number}:{code}")
    engine.answer(*batch(engine))
    for _ in range(2):
        result = engine.run(*batch(engine))
        assert result["error"][0] == "fatal", result
        assert result["answers"] + len(result["row_errors"]) < 3


def test_full_device_is_out_of_memory_and_a_smaller_batch_runs(start, base_model):
    # Weights and caches take 7 of these. The keys and values of 128 images do not fit.
    engine = start(base_model, gib=8)
    assert engine.is_loaded, engine.stderr_path.read_text()
    images = engine.new_images(128)
    questions = [question(row % 128, tokens=40) for row in range(1536)]
    result = engine.run(images, questions)
    assert result["error"] is not None and result["error"][0] == "out_of_memory", result
    engine.answer(images[:1], [question(0)])
    assert engine.trace.faults() == {}


@pytest.mark.parametrize("is_last", [False, True])
def test_copy_without_memory_is_out_of_memory(start, first_call, is_last):
    # The copy in the middle is in a function with a scalar argument, see `torch_panics`.
    number = first_call("copy", is_last=is_last)
    engine = start(fail=f"copy:{number}:{OUT_OF_MEMORY}")
    engine.answer(*batch(engine))
    assert engine.run(*batch(engine))["error"][0] == "out_of_memory"
    engine.answer(*batch(engine))


def test_refused_allocation_is_repeated_by_libtorch(start):
    engine = start()
    engine.answer(*batch(engine))
    allocations = sum(event.kind == "allocate" for event in engine.trace.events())
    engine = start(fail=f"allocate:{allocations}:{OUT_OF_MEMORY}")
    assert engine.is_loaded
    # LibTorch releases what it does not use, and tries again.
    engine.answer(*batch(engine))


def test_product_without_memory_is_out_of_memory(start, first_call):
    number = first_call("product")
    engine = start(fail=f"product:{number}:{OUT_OF_MEMORY}")
    engine.answer(*batch(engine))
    assert engine.run(*batch(engine))["error"][0] == "out_of_memory"
    engine.answer(*batch(engine))


def test_device_lost_on_loading_is_an_error(start):
    engine = start(fail=f"kernel:1:{ILLEGAL_ADDRESS}")
    assert not engine.is_loaded
    assert "illegal memory access" in engine.stop()


def test_failed_captures_leave_a_model_without_these_graphs(start):
    engine = start(graphs=True, fail=f"capture_end:2:{INVALID_VALUE}")
    assert engine.is_loaded
    engine.answer(*batch(engine))
    assert "graph" in {event.kind for event in engine.trace.events_since("loaded")}
    stderr = engine.stop()
    assert stderr.count("CUDA graph not captured") == 1 and len(stderr.splitlines()) == 1, stderr
