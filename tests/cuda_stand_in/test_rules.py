"""The rules of CUDA, in every number format, with and without graphs, on each device."""

import pytest
from engine import question, random_batches

GRAPHS = {"plain": False, "graphs": True}


def assert_no_faults(engine):
    assert engine.trace.faults() == {}
    assert engine.stop() == "", "standard error has lines"


@pytest.mark.parametrize("graphs", GRAPHS)
@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_random_batches_obey_the_rules(start, dtype, graphs):
    engine = start(dtype=dtype, graphs=GRAPHS[graphs])
    assert engine.is_loaded, engine.stderr_path.read_text()
    random_batches(engine, 40)
    kinds = {event.kind for event in engine.trace.events_since("loaded")}
    assert {"kernel", "product", "copy", "wait"} <= kinds, "the batches ran on the device"
    assert ("graph" in kinds) == (graphs == "graphs")
    assert_no_faults(engine)


@pytest.mark.parametrize("graphs", GRAPHS)
@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_attention_maps_obey_the_rules(start, dtype, graphs):
    engine = start(dtype=dtype, graphs=GRAPHS[graphs])
    products = {}
    for name, explain in [("plain", False), ("explained", True)]:
        questions = [question(index % 3, tokens=5 + index, explain=explain and index < 4) for index in range(6)]
        # The stand-ins compute nothing, so the weights of a map can be zeros, which have no map.
        result = engine.run(engine.new_images(3), questions, name)
        assert result["error"] is None and result["answers"] >= 2, result
        products[name] = sum(event.kind == "product" for event in engine.trace.events(name))
    assert products["explained"] > products["plain"], "the maps were computed on the device"
    assert_no_faults(engine)


@pytest.mark.parametrize("graphs", GRAPHS)
def test_engine_on_second_device_uses_no_other(start, graphs):
    engine = start(device="cuda:1", devices=2, graphs=GRAPHS[graphs])
    assert engine.is_loaded, engine.stderr_path.read_text()
    random_batches(engine, 20)
    devices = {event.device for event in engine.trace.events_since("loaded") if event.device >= 0}
    assert devices == {1}
    assert_no_faults(engine)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_tanh_gelu_is_computed_by_the_products(start, dtype):
    kernels = {}
    for gelu in ("exact", "tanh"):
        engine = start(dtype=dtype, gelu=gelu)
        assert engine.is_loaded, engine.stderr_path.read_text()
        images = engine.new_images(3)
        engine.answer(images, [question(index, tokens=5 + index, max_new_tokens=1) for index in range(3)], "batch")
        kernels[gelu] = sum(event.kind == "kernel" for event in engine.trace.events("batch"))
        assert_no_faults(engine)
    # Two layers each of the vision encoder, the text encoder and the decoder, and its head.
    assert kernels["exact"] - kernels["tanh"] == 2 + 2 + 2 + 1


@pytest.mark.parametrize("graphs", GRAPHS)
def test_products_of_images_are_in_fp8(start, graphs):
    engine = start(images="fp8", graphs=GRAPHS[graphs])
    assert engine.is_loaded, engine.stderr_path.read_text()
    engine.answer(engine.new_images(3), [question(index) for index in range(3)], "batch")
    if graphs == "graphs":
        events = [event for event in engine.trace.events() if event.is_captured]
    else:
        events = engine.trace.events("batch")
    in_fp8 = [event.detail.endswith(" fp8") for event in events if event.kind == "product"]
    # Four products of each layer, in each graph of images. The patches and the texts are in f16.
    assert sum(in_fp8) == 4 * 2 * (5 if graphs == "graphs" else 1)
    assert not all(in_fp8)
    random_batches(engine, 20)
    assert_no_faults(engine)


@pytest.mark.parametrize("capability", [80, 86])
def test_device_without_fp8_is_named(start, capability):
    engine = start(images="fp8", capability=capability)
    assert not engine.is_loaded
    message = engine.stop()
    assert "vision_dtype fp8 is not available: " in message and "8.9" in message


@pytest.mark.parametrize("capability", [75, 80, 89, 100, 120])
def test_every_generation_obeys_the_rules(start, capability):
    engine = start(capability=capability)
    assert engine.is_loaded, engine.stderr_path.read_text()
    random_batches(engine, 10)
    assert_no_faults(engine)


def test_cuda_engine_starts_no_thread_team(start):
    engine = start()
    before = engine.threads()
    engine.answer(images := engine.new_images(16), [question(index) for index in range(len(images))])
    assert engine.threads() == before
    assert_no_faults(engine)


def test_uploads_and_captures_use_different_pools_of_streams(start):
    """LibTorch gives each stream of a pool to several engines. Each priority has a pool."""
    engine = start(graphs=True)
    engine.answer(engine.new_images(2), [question(0), question(1)])
    events = engine.trace.events()
    priority = {event.stream: event.detail for event in events if event.kind == "stream"}
    captures = {priority[event.stream] for event in events if event.kind == "capture_begin"}
    uploads = {
        priority[event.stream]
        for event in events
        if event.stream > 0 and event.detail.endswith("page-locked to device")
    }
    # The lowest number is the highest priority, which graphs keep.
    assert uploads == {"0"}
    assert len(captures) == 1 and all(int(each) < 0 for each in captures)
