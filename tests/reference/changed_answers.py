"""Counts the answers to easy-vqa that change with a change of the model's arithmetic.

The model runs in `transformers`, in f32 on a CPU. The answers are compared with those in
data/easy_vqa_reference.json.gz, which have no change.

- `tanh-gelu`: the tanh form of GELU in all networks (`--cuda-gelu tanh`).
- `fp8-images`: inputs and weights of the image encoder's products are rounded to float8_e4m3, as
  tensor cores read them. A weight has one scale, inputs have none.

    python tests/reference/changed_answers.py tanh-gelu [--model FOLDER]
"""

import argparse
import gzip
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, BlipForQuestionAnswering, BlipImageProcessorPil

import reference_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models/training"))
from demo.data import easy_vqa_set  # noqa: E402
from demo.evaluation import generation  # noqa: E402

TANH_FORM = "gelu_pytorch_tanh"
# The largest number in float8_e4m3. Larger ones become it.
MAX_FP8 = 448.0


def round_to_fp8(numbers):
    return numbers.clamp(-MAX_FP8, MAX_FP8).to(torch.float8_e4m3fn).to(numbers.dtype)


def use_fp8_images(model):
    """Rounds the products of the image encoder."""
    for layer in model.vision_model.encoder.modules():
        if isinstance(layer, torch.nn.Linear):
            scale = layer.weight.detach().abs().max() / MAX_FP8
            layer.weight.data = round_to_fp8(layer.weight.detach() / scale) * scale
            layer.register_forward_pre_hook(lambda _, inputs: (round_to_fp8(inputs[0]), *inputs[1:]))


def load(folder, change):
    """Returns the model with a change."""
    config = AutoConfig.from_pretrained(folder)
    if change == "tanh-gelu":
        for part in (config.text_config, config.vision_config):
            if part.hidden_act != "gelu":
                raise SystemExit(f"the model has {part.hidden_act}, expected gelu")
            part.hidden_act = TANH_FORM
    model = BlipForQuestionAnswering.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    if change == "fp8-images":
        use_fp8_images(model)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("change", choices=["tanh-gelu", "fp8-images"])
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo", help="model folder")
    arguments = parser.parse_args()
    folder = arguments.model
    reference = json.loads(gzip.decompress((reference_file.DATA / "easy_vqa_reference.json.gz").read_bytes()))
    processor, tokenizer = BlipImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    paths, questions = easy_vqa_set.load()
    pixels = torch.cat([processor(Image.open(path), return_tensors="pt").pixel_values for path in paths])
    rows = [(question.image, tokenizer(question.text).input_ids) for question in questions]
    answers = generation.ask(load(folder, arguments.change), pixels.__getitem__, rows, batch=64)

    changed, largest = [], 0.0
    for answer, (which, score, margin) in zip(answers, reference["given"], strict=True):
        if list(answer.ids) != reference["answers"][which]["token_ids"]:
            changed.append(margin)
        else:
            largest = max(largest, abs(answer.score - score))
    print(f"{len(changed)} of {len(answers)} answers changed, with margins {sorted(changed)}")
    print(f"largest difference of the scores of equal answers: {largest:.1e}")


if __name__ == "__main__":
    main()
