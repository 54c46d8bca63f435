"""The attention kernels that batches use, by name."""

import collections

import pytest
from engine import question

# Parts of the names of LibTorch's kernels.
KERNELS = {"flash": "flash_fwd", "efficient": "fmha_cutlass", "cudnn": "cudnn_attention"}
LAYERS = 2


def attention(engine, name):
    """Returns the number of launches of each attention kernel in a batch."""
    kernels = [event.name for event in engine.trace.events(name) if event.kind == "kernel"]
    found = collections.Counter()
    for kind, part in KERNELS.items():
        found[kind] = sum(part in kernel for kernel in kernels)
    return found


def run(engine, images, lengths, name):
    numbers = engine.new_images(images)
    questions = [question(index % images, tokens, 1) for index, tokens in enumerate(lengths)]
    engine.answer(numbers, questions, name)
    return attention(engine, name)


def test_masked_questions_use_the_efficient_kernel(start):
    engine = start()
    equal = run(engine, 3, [8, 8, 8], "equal")
    # Vision encoder, both attentions of questions, cross-attention of the decoder.
    assert equal == {"flash": 4 * LAYERS, "efficient": 0, "cudnn": 0}
    unequal = run(engine, 3, [5, 8, 11], "unequal")
    # Self-attention of questions and cross-attention of the decoder have a mask.
    assert unequal == {"flash": 2 * LAYERS, "efficient": 2 * LAYERS, "cudnn": 0}


def test_cudnn_encodes_only_prepared_numbers_of_images(start):
    engine = start()
    cudnn = {images: run(engine, images, [8] * images, str(images))["cudnn"] for images in range(1, 17)}
    assert {images for images, launches in cudnn.items() if launches == LAYERS} == {1, 2, 4, 8, 16}
    assert set(cudnn.values()) == {0, LAYERS}


@pytest.mark.parametrize("capability", [80, 89, 120])
def test_other_generations_do_not_use_cudnn(start, capability):
    engine = start(capability=capability)
    assert run(engine, 4, [5, 8, 11, 8], "batch") == {"flash": 2 * LAYERS, "efficient": 2 * LAYERS, "cudnn": 0}


def test_f32_uses_the_efficient_kernel_alone(start):
    engine = start(dtype="f32")
    assert run(engine, 4, [5, 8, 11, 8], "batch") == {"flash": 0, "efficient": 4 * LAYERS, "cudnn": 0}


def test_masks_are_not_copied_in_each_layer(start, deep_model, small_model):
    """Counts the kernels that a mask adds to a batch. More layers do not add more of them."""

    def added(model):
        engine = start(model)
        for name, lengths in (("equal", [9, 9]), ("unequal", [9, 8])):
            run(engine, 2, lengths, f"first {name}")
            run(engine, 2, lengths, name)
        kernels = [sum(event.kind == "kernel" for event in engine.trace.events(name)) for name in ("equal", "unequal")]
        return kernels[1] - kernels[0]

    assert added(deep_model) == added(small_model)


def cached_batch(engine, images, most_questions=2, are_adjacent=False):
    """Runs a batch of cached images, which have up to `most_questions` questions each.

    Adjacent slots are read without a copy.

    Returns the number of kernels that copy rows of a table, and of each attention kernel.
    """
    all_images = engine.new_images(2 * images)
    # The second batch stores keys and values.
    for _ in range(2):
        engine.answer(all_images, [question(row // 2, 8, 1) for row in range(4 * images)])
    questions = [
        question(image, 8, 1) for image in range(images) for _ in range(most_questions - image % (most_questions - 1))
    ]
    name = f"{images} images, up to {most_questions} questions, {are_adjacent}"
    engine.answer(all_images[:images] if are_adjacent else all_images[::2], questions, name)
    kernels = [event.name for event in engine.trace.events(name) if event.kind == "kernel"]
    copies = sum("indexSelect" in kernel or "gather_kernel" in kernel for kernel in kernels)
    return copies, attention(engine, name)


@pytest.mark.parametrize(("dtype", "capability"), [("f16", 90), ("bf16", 80)])
def test_many_cached_images_are_read_where_they_are(start, dtype, capability):
    engine = start(dtype=dtype, capability=capability)
    (few, of_few), (many, of_many) = cached_batch(engine, 15), cached_batch(engine, 16)
    assert few - many == LAYERS
    # Both attentions of questions, cross-attention of the decoder.
    once = {"flash": 3 * LAYERS, "efficient": 0, "cudnn": 0}
    assert of_few == of_many == once
    # One call reads all images, whatever their numbers of questions.
    assert cached_batch(engine, 16, most_questions=5) == (many, once)
    _, of_groups = cached_batch(engine, 15, most_questions=5)
    assert of_groups == {"flash": (2 + 4) * LAYERS, "efficient": 0, "cudnn": 0}
    assert engine.trace.faults() == {}
    assert engine.stop() == ""


@pytest.mark.parametrize(("dtype", "capability"), [("f32", 90), ("f16", 75)])
def test_cached_images_are_copied_without_flash_attention(start, dtype, capability):
    engine = start(dtype=dtype, capability=capability)
    (few, _), (many, of_many) = cached_batch(engine, 15), cached_batch(engine, 16)
    assert few == many
    adjacent, _ = cached_batch(engine, 16, are_adjacent=True)
    assert many - adjacent == LAYERS
    assert of_many["flash"] == 0
    assert engine.trace.faults() == {}
    assert engine.stop() == ""
