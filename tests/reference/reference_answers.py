"""Asks the reference every question of easy-vqa's test split and keeps its answers.

The reference is `transformers`' BlipForQuestionAnswering, in f32 on a CPU, each question on its
own. Questions of equal length are asked in one batch: nothing is padded then, so a batch is many
questions alone. A sample is asked one at a time as well, to prove that.

    python tests/reference/reference_answers.py            # models/demo -> tests/reference/data/easy_vqa_reference.json.gz

The file: `answers`, the distinct answers as {text, token_ids}; `given`, one
[index into answers, score, margin] a question, in `easy_vqa_set.load`'s order.
"""

import argparse
import gzip
import hashlib
import json
import random
import sys
from pathlib import Path

import torch
import transformers
from PIL import Image
from transformers import AutoTokenizer, BlipForQuestionAnswering, BlipImageProcessorPil

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models/training"))
from demo import easy_vqa_set, evaluation  # noqa: E402

REFERENCE = ROOT / "tests/reference/data/easy_vqa_reference.json.gz"


def ask_all(folder, sample):
    """Answers to all questions, after checking that `sample` of them, asked alone, are the same."""
    model = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    paths, questions = easy_vqa_set.load()
    pictures = torch.cat([processor(Image.open(path), return_tensors="pt").pixel_values for path in paths])
    rows = [(q.picture, tokenizer(q.text).input_ids) for q in questions]
    answers = evaluation.ask(model, pictures.__getitem__, rows, batch=64)

    chosen = random.Random(0).sample(range(len(rows)), sample)
    alone = evaluation.ask(model, pictures.__getitem__, [rows[i] for i in chosen], batch=1)
    for i, answer in zip(chosen, alone, strict=True):
        same = answers[i].ids == answer.ids and abs(answers[i].score - answer.score) < 1e-4
        if not same:
            raise SystemExit(f"question {i}: alone {answer}, in a batch of its length {answers[i]}")
    print(f"{sample} questions asked alone: same token ids, scores within 1e-4")
    return questions, answers, tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo")
    parser.add_argument("--out", type=Path, default=REFERENCE)
    parser.add_argument("--sample", type=int, default=300)
    options = parser.parse_args()
    questions, answers, tokenizer = ask_all(options.model, options.sample)

    distinct = sorted({answer.ids for answer in answers})
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in distinct]
    index = {ids: i for i, ids in enumerate(distinct)}
    right = sum(texts[index[a.ids]] == q.answer for a, q in zip(answers, questions, strict=True))
    content = {
        "model_sha256": hashlib.sha256((options.model / "model.safetensors").read_bytes()).hexdigest(),
        "transformers": transformers.__version__,
        "right": right,
        "answers": [{"text": text, "token_ids": list(ids)} for text, ids in zip(texts, distinct, strict=True)],
        "given": [[index[a.ids], round(a.score, 5), round(a.margin, 3)] for a in answers],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0)
    options.out.write_bytes(packed)
    print(f"{right} of {len(questions)} right ({right / len(questions):.2%}); {len(distinct)} distinct answers; "
          f"smallest margin {min(a.margin for a in answers):.3f}; {len(packed) / 1e3:.0f} kB to {options.out}")


if __name__ == "__main__":
    main()
