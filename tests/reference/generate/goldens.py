"""Writes the goldens that the Rust model is compared with: crates/blip/tests/goldens/NAME/.

Each folder is a small random BLIP checkpoint in Hugging Face's layout, a few pictures, and what
`transformers` computed from it with every question asked alone (batch of one, no padding), which
is the truth that the server holds itself to:

    expected.json          which picture and question each case has, its score, how it ended
    expected.safetensors   caseN.pixel_values    [3, size, size]      f32
                           caseN.input_ids       [tokens]             i64
                           caseN.image_embeds    [patches + 1, width] f32
                           caseN.question_states [tokens, width]      f32
                           caseN.step_logits     [steps, vocabulary]  f32
                           caseN.generated_ids   [steps + 1]          i64, start token first

    python tests/reference/generate/goldens.py                 # all of them, into the crate
    python tests/reference/generate/goldens.py --only untied_head --out /tmp/goldens
"""

import argparse
import json
import random
import shutil
import sys
from pathlib import Path

import numpy
import torch
from PIL import Image, __version__ as pillow_version
from safetensors.torch import load_file, save_file
from transformers import BlipConfig, BlipForQuestionAnswering, BlipImageProcessorPil
from transformers import __version__ as transformers_version

import random_weights
from golden_cases import CASES

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "models/training"))
from demo import wordpiece  # noqa: E402

GOLDENS = ROOT / "crates/blip/tests/goldens"
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


WORDS = (
    "what is the color of shape there a circle in picture how many are red blue green left right top "
    "café naïve dog two boxes ##ing ##ed un ##known"
).split()


def pictures(rng, count=2):
    """Small pictures with edges and smooth parts, wide and tall, so that resizing has work to do."""
    for _ in range(count):
        height, width = int(rng.integers(20, 70)), int(rng.integers(20, 70))
        y, x = numpy.mgrid[0:height, 0:width]
        waves = [numpy.sin(x * rng.uniform(0.05, 0.6) + y * rng.uniform(0.05, 0.6)) for _ in range(3)]
        pixels = 128 + 90 * numpy.stack(waves, -1) + rng.normal(0, 8, (height, width, 3))
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        pixels[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
        yield Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))


def question(tokenizer, words, length, rng):
    """A nonsense question of exactly `length` tokens; some words are not in the vocabulary."""
    text = ""
    while len(tokenizer.encode(text).ids) < length:
        word = rng.choice([*words, "Rhinoceros", "Café", "42", "ZOË", "日", "?"]) if rng.random() < 0.8 else rng.choice("abcxyz")
        longer = f"{text} {word}".strip()
        if len(tokenizer.encode(longer).ids) <= length:
            text = longer
    return text


def write_checkpoint(golden, folder, model_class=BlipForQuestionAnswering):
    """Writes the checkpoint folder; returns its tokenizer and the words questions are made of."""
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
            head.bias[text["pad_token_id"]] -= 10.0  # a pad in mid-answer would be ambiguous
    if golden.half:
        model = model.half()
    model.save_pretrained(folder, max_shard_size="60KB" if golden.sharded else "1GB")

    if golden.head != "absent" or golden.old_buffers:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        generator = torch.Generator().manual_seed(golden.seed + 1000)
        weight = tensors["text_decoder.bert.embeddings.word_embeddings.weight"].clone()
        bias = tensors["text_decoder.cls.predictions.bias"].clone()
        if golden.head == "own":
            weight = random_weights.tensor("decoder.weight", weight.shape, generator)
            bias = bias + torch.randn(bias.shape, generator=generator)
        tensors["text_decoder.cls.predictions.decoder.weight"] = weight
        tensors["text_decoder.cls.predictions.decoder.bias"] = bias
        if golden.old_buffers:
            positions = torch.arange(text["max_position_embeddings"]).unsqueeze(0)
            tensors["text_encoder.embeddings.position_ids"] = positions
            tensors["text_decoder.bert.embeddings.position_ids"] = positions.clone()
        save_file(tensors, path, metadata={"format": "pt"})

    config = json.loads((folder / "config.json").read_text())
    preprocessor = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_processor_type": "BlipImageProcessor",
        "image_std": CLIP_STD,
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
    wordpiece.save(entries, folder, golden.vocab_txt)
    return wordpiece.build(entries), words


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def ask_alone(model, pixel_values, input_ids, limits):
    """What the reference does with one question about one picture, step by step."""
    generated = model.generate(
        input_ids=input_ids, pixel_values=pixel_values, return_dict_in_generate=True, output_logits=True, **limits
    )
    image_embeds = model.vision_model(pixel_values).last_hidden_state
    question_states = model.text_encoder(input_ids, encoder_hidden_states=image_embeds).last_hidden_state
    return {
        "image_embeds": image_embeds[0],
        "question_states": question_states[0],
        "step_logits": torch.cat(generated.logits),
        "generated_ids": generated.sequences[0],
    }


def check(model, case, stop):
    """Proves that the recorded logits lead to the recorded answer, by a second way of computing.

    The whole answer goes through the decoder at once, without a cache, from the recorded question
    states; the best token of each step must be the one that `generate` took, and clearly so, for
    a tie would make the golden depend on the order of additions.
    """
    ids = case["generated_ids"]
    again = model.text_decoder(
        ids[None, :-1], encoder_hidden_states=case["question_states"][None], is_decoder=True, use_cache=False
    ).logits[0]
    torch.testing.assert_close(again, case["step_logits"], rtol=1e-4, atol=1e-4)
    assert torch.equal(again.argmax(-1), ids[1:]), "greedy steps do not reproduce generate()"
    best = again.topk(2, -1).values
    margin = float((best[:, 0] - best[:, 1]).min())
    assert margin > 5e-3, f"a near tie of {margin}: choose another seed"
    assert stop not in ids[1:-1], "the answer goes on after the stop token"
    return margin


@torch.no_grad()
def write(golden, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer, words = write_checkpoint(golden, folder)
    model = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(folder)
    stop = model.config.text_config.sep_token_id
    rng = random.Random(golden.seed)
    images = list(pictures(numpy.random.default_rng(golden.seed)))
    for i, image in enumerate(images):
        image.save(folder / f"image{i}.png", optimize=True)

    tensors, cases = {}, []
    for i, length in enumerate(golden.lengths):
        picture = i % len(images)
        text = question(tokenizer, words, length, rng)
        input_ids = torch.tensor([tokenizer.encode(text).ids])
        pixel_values = processor(images[picture], return_tensors="pt").pixel_values
        case = ask_alone(model, pixel_values, input_ids, golden.generation or {})
        margin = check(model, case, stop)
        ids = case["generated_ids"]
        log_probabilities = case["step_logits"].double().log_softmax(-1)
        score = float(log_probabilities.gather(1, ids[1:, None]).sum())
        case |= {"pixel_values": pixel_values[0], "input_ids": input_ids[0]}
        tensors |= {f"case{i}.{key}": value.contiguous() for key, value in case.items()}
        cases.append({
            "image": f"image{picture}.png",
            "question": text,
            "question_tokens": length,
            "answer": tokenizer.decode([int(t) for t in ids if t < tokenizer.get_vocab_size()]),
            "steps": len(ids) - 1,
            "stopped": int(ids[-1]) == stop,
            "score": score,
            "smallest_margin": margin,
        })
    save_file(tensors, folder / "expected.safetensors")
    write_json(folder / "expected.json", {
        "transformers": transformers_version,
        "torch": torch.__version__.split("+")[0],
        "pillow": pillow_version,
        "seed": golden.seed,
        "stop_token_id": stop,
        "cases": cases,
    })
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDENS)
    parser.add_argument("--only", help="the name of one golden")
    arguments = parser.parse_args()
    assert int(pillow_version.split(".")[0]) < 13, "Pillow 13 resizes tall pictures in another order"
    torch.set_num_threads(1)  # the same additions in the same order on every machine

    steps, stopped = set(), set()
    for golden in CASES:
        if arguments.only in (None, golden.name):
            cases = write(golden, arguments.out / golden.name)
            steps |= {case["steps"] for case in cases}
            stopped |= {case["stopped"] for case in cases}
            size = sum(path.stat().st_size for path in (arguments.out / golden.name).iterdir())
            print(f"{golden.name:16} {size / 1e3:7.0f} kB  steps {[c['steps'] for c in cases]}"
                  f"  stopped {[int(c['stopped']) for c in cases]}")
    if arguments.only is None:
        assert len(steps) >= 4 and stopped == {True, False}, "goldens whose answers all end alike prove little"


if __name__ == "__main__":
    main()
