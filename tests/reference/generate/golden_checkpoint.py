"""Makes the random checkpoints, images and questions that the golden files are computed from."""

import json
import sys
from pathlib import Path

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BlipConfig, BlipForQuestionAnswering

import random_weights

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "models/training"))
from demo.data import preprocess, wordpiece  # noqa: E402

BLIP_TESTS = ROOT / "crates/blip/tests"
GOLDENS = BLIP_TESTS / "goldens"
# The least lead of a chosen token, in logits. With less, the order of additions could decide.
MIN_MARGIN = 5e-3

WORDS = (
    "what is the color of shape there a circle in picture how many are red blue green left right top "  # check_prose: allow
    "café naïve dog two boxes ##ing ##ed un ##known"
).split()


def random_images(rng, count=2):
    """Yields small wide and tall images with edges and gradients."""
    for _ in range(count):
        height, width = int(rng.integers(20, 70)), int(rng.integers(20, 70))
        y, x = numpy.mgrid[0:height, 0:width]
        waves = [numpy.sin(x * rng.uniform(0.05, 0.6) + y * rng.uniform(0.05, 0.6)) for _ in range(3)]
        pixels = 128 + 90 * numpy.stack(waves, -1) + rng.normal(0, 8, (height, width, 3))
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        pixels[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
        yield Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))


def scaled(image, size):
    """Returns an image at the model's size, [size, size, 3] u8, scaled as by the reference."""
    return torch.from_numpy(numpy.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).copy())


def random_question(tokenizer, words, length, rng):
    """Returns a random text of exactly `length` tokens. Some words are not in the vocabulary."""
    unknown = ["Rhinoceros", "Café", "42", "ZOË", "日", "?"]
    text = ""
    while len(tokenizer.encode(text).ids) < length:
        word = rng.choice([*words, *unknown]) if rng.random() < 0.8 else rng.choice("abcxyz")
        longer = f"{text} {word}".strip()
        if len(tokenizer.encode(longer).ids) <= length:
            text = longer
    return text


def write_checkpoint(golden, folder, model_class=BlipForQuestionAnswering):
    """Writes the checkpoint folder of a `Golden`.

    Returns its tokenizer and the words that questions consist of.
    """
    words = [word for word in WORDS if not word.startswith("##")]
    entries = wordpiece.vocabulary(WORDS, golden.special_ids)
    ids = {entry: i for i, entry in enumerate(entries)}
    text = dict(
        golden.text,
        vocab_size=len(entries) + 2,
        bos_token_id=len(entries),
        sep_token_id=ids["[SEP]"],
        pad_token_id=ids["[PAD]"],
    )
    if "text_config.max_position_embeddings" not in golden.omit:
        text.setdefault("max_position_embeddings", 64)
    model = model_class(
        BlipConfig(text_config=text, vision_config=golden.vision, image_text_hidden_size=golden.projection)
    )
    random_weights.fill(model, golden.seed, golden.gain)
    if hasattr(model, "text_decoder"):
        head = model.text_decoder.cls.predictions
        with torch.no_grad():
            head.bias[text["sep_token_id"]] += golden.stop_bias
            head.bias[text["pad_token_id"]] -= 10.0  # a pad token within an answer would be ambiguous
    if golden.is_f16:
        model = model.half()
    model.save_pretrained(folder, max_shard_size="60KB" if golden.is_sharded else "1GB")
    if golden.head != "absent" or golden.has_old_buffers:
        add_tensors(golden, folder / "model.safetensors", text["max_position_embeddings"])
    write_configuration(golden, folder)
    wordpiece.save(entries, folder, golden.has_vocab_txt)
    return wordpiece.build(entries), words


def add_tensors(golden, path, positions):
    """Adds the head and the buffers that the checkpoint of a `Golden` contains explicitly."""
    tensors = load_file(path)
    generator = torch.Generator().manual_seed(golden.seed + 1000)
    weight = tensors["text_decoder.bert.embeddings.word_embeddings.weight"].clone()
    bias = tensors["text_decoder.cls.predictions.bias"].clone()
    if golden.head == "untied":
        weight = random_weights.tensor("decoder.weight", weight.shape, generator)
        bias = bias + torch.randn(bias.shape, generator=generator)
    tensors["text_decoder.cls.predictions.decoder.weight"] = weight
    tensors["text_decoder.cls.predictions.decoder.bias"] = bias
    if golden.has_old_buffers:
        position_ids = torch.arange(positions).unsqueeze(0)
        tensors["text_encoder.embeddings.position_ids"] = position_ids
        tensors["text_decoder.bert.embeddings.position_ids"] = position_ids.clone()
    save_file(tensors, path, metadata={"format": "pt"})


def write_configuration(golden, folder):
    """Writes the configuration files of a `Golden` and removes the keys that it omits."""
    config = json.loads((folder / "config.json").read_text())
    preprocessor = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": preprocess.MEAN,
        "image_processor_type": "BlipImageProcessor",
        "image_std": preprocess.STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": golden.vision["image_size"], "width": golden.vision["image_size"]},
        **(golden.preprocessor or {}),
    }
    for key in golden.omit:
        section, leaf = key.split(".")
        del (preprocessor if section == "preprocessor" else config[section])[leaf]
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", preprocessor)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if golden.generation:
        write_json(folder / "generation_config.json", golden.generation)


def write_json(path, value):
    """Writes indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def smallest_margin(logits):
    """Returns the smallest lead of a best token over the second best in [steps, vocabulary].

    Fails if it is below MIN_MARGIN.
    """
    best = logits.topk(2, -1).values
    margin = float((best[:, 0] - best[:, 1]).min())
    assert margin > MIN_MARGIN, f"near tie of {margin}: choose another seed"
    return margin
