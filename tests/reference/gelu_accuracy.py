"""Counts the answers to easy-vqa that change with the tanh form of GELU (`--cuda-gelu tanh`).

The model runs in `transformers`, in f32 on a CPU, with this form in all its networks. The answers
are compared with those in data/easy_vqa_reference.json.gz, which have the exact form.

    python tests/reference/gelu_accuracy.py [--model FOLDER]
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


def load(folder):
    """Returns the model with the tanh form in all its networks."""
    config = AutoConfig.from_pretrained(folder)
    for part in (config.text_config, config.vision_config):
        if part.hidden_act != "gelu":
            raise SystemExit(f"the model has {part.hidden_act}, expected gelu")
        part.hidden_act = TANH_FORM
    return BlipForQuestionAnswering.from_pretrained(folder, config=config, dtype=torch.float32).eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo", help="model folder")
    folder = parser.parse_args().model
    reference = json.loads(gzip.decompress((reference_file.DATA / "easy_vqa_reference.json.gz").read_bytes()))
    processor, tokenizer = BlipImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    paths, questions = easy_vqa_set.load()
    pixels = torch.cat([processor(Image.open(path), return_tensors="pt").pixel_values for path in paths])
    rows = [(question.image, tokenizer(question.text).input_ids) for question in questions]
    answers = generation.ask(load(folder), pixels.__getitem__, rows, batch=64)

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
