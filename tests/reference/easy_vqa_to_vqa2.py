"""Writes easy-vqa's test split as VQA version 2 has its files, for `blip-serve eval`.

Each question's one right answer stands there ten times, as if ten people had given it, so that the official accuracy is
the share of right answers.

    python tests/reference/easy_vqa_to_vqa2.py --output /tmp/easy-vqa
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "models/training"))
from demo import easy_vqa_set  # noqa: E402

PEOPLE = 10


def answer_type(answer):
    """As VQA names what an answer is."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def convert(paths, questions):
    """The two files' contents. Images have the number that is in their file's name."""
    numbers = [int(Path(path).stem) for path in paths]
    asked, annotated = [], []
    for position, question in enumerate(questions):
        place = {"question_id": position, "image_id": numbers[question.picture]}
        asked.append({**place, "question": question.text})
        people = [{"answer_id": person + 1, "answer": question.answer, "answer_confidence": "yes"} for person in range(PEOPLE)]
        annotated.append({
            **place,
            "question_type": " ".join(question.text.rstrip("?").split()[:2]),
            "answer_type": answer_type(question.answer),
            "multiple_choice_answer": question.answer,
            "answers": people,
        })  # fmt: skip
    return {"questions": asked}, {"annotations": annotated}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="the folder for questions.json and annotations.json")
    parser.add_argument("--pictures", type=int, help="the questions about the first few pictures only")
    options = parser.parse_args()
    paths, questions = easy_vqa_set.load()
    if options.pictures is not None:
        questions = [question for question in questions if question.picture < options.pictures]
    options.output.mkdir(parents=True, exist_ok=True)
    for name, contents in zip(("questions", "annotations"), convert(paths, questions), strict=True):
        (options.output / f"{name}.json").write_text(json.dumps(contents))
    print(f"{len(questions)} questions; images: {Path(paths[0]).parent}, by the pattern {{image_id}}.png")


if __name__ == "__main__":
    main()
