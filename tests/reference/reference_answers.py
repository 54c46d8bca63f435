"""Writes the reference answers to every question of easy-vqa's test split.

The reference is BlipForQuestionAnswering of `transformers`, in f32 on a CPU. Questions of equal
length share a batch, so that nothing is padded. The script also asks a sample one at a time and
compares.

    python tests/reference/reference_answers.py      # writes data/easy_vqa_reference.json.gz

The file has `answers`, the distinct answers as {text, token_ids}, and `given`, one
[index into answers, score, margin] for each question, in the order of `easy_vqa_set.load`.
"""

import argparse
import random
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoTokenizer, BlipForQuestionAnswering, BlipImageProcessorPil

import reference_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models/training"))
from demo.data import easy_vqa_set  # noqa: E402
from demo.evaluation import generation  # noqa: E402


def ask_all(folder, sample):
    """Returns questions, answers and tokenizer. Checks that `sample` single questions agree."""
    model = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    paths, questions = easy_vqa_set.load()
    pixels = torch.cat([processor(Image.open(path), return_tensors="pt").pixel_values for path in paths])
    rows = [(question.image, tokenizer(question.text).input_ids) for question in questions]
    answers = generation.ask(model, pixels.__getitem__, rows, batch=64)

    chosen = random.Random(0).sample(range(len(rows)), sample)
    single = generation.ask(model, pixels.__getitem__, [rows[i] for i in chosen], batch=1)
    for i, answer in zip(chosen, single, strict=True):
        if answers[i].ids != answer.ids or abs(answers[i].score - answer.score) >= 1e-4:
            raise SystemExit(f"question {i} differs: {answer} alone, {answers[i]} in a batch of its length")
    print(f"{sample} single questions: same token ids, scores within 1e-4")
    return questions, answers, tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo", help="model folder")
    parser.add_argument("--out", type=Path, default=reference_file.DATA / "easy_vqa_reference.json.gz")
    parser.add_argument("--sample", type=int, default=300, help="questions to ask one at a time as well")
    options = parser.parse_args()
    questions, answers, tokenizer = ask_all(options.model, options.sample)

    distinct = sorted({answer.ids for answer in answers})
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in distinct]
    index = {ids: i for i, ids in enumerate(distinct)}
    right = sum(texts[index[a.ids]] == q.answer for a, q in zip(answers, questions, strict=True))
    content = {
        "right": right,
        "answers": [
            {"text": text, "token_ids": list(ids)} for text, ids in zip(texts, distinct, strict=True)
        ],
        "given": [[index[a.ids], round(a.score, 5), round(a.margin, 3)] for a in answers],
    }
    size = reference_file.write(options.out, options.model, content)
    print(
        f"{right} of {len(questions)} correct ({right / len(questions):.2%}); {len(distinct)} distinct answers; "
        f"smallest margin {min(a.margin for a in answers):.3f}; {size / 1e3:.0f} kB to {options.out}"
    )


if __name__ == "__main__":
    main()
