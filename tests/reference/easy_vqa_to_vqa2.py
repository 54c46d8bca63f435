"""Writes easy-vqa's test split in the file format of VQA version 2, for `blip-serve eval`.

Each correct answer occurs ten times, as if ten people had given it. So the official accuracy equals
the fraction of correct answers.

    python tests/reference/easy_vqa_to_vqa2.py --output /tmp/easy-vqa
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "models/training"))
from demo.data import easy_vqa_set  # noqa: E402

PEOPLE = 10


def answer_type(answer):
    """Returns the answer type by the rules of VQA."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def convert(paths, questions):
    """Returns the contents of the two files. The image id is the number in the file name."""
    numbers = [int(Path(path).stem) for path in paths]
    listed, annotated = [], []
    for position, question in enumerate(questions):
        ids = {"question_id": position, "image_id": numbers[question.image]}
        listed.append({**ids, "question": question.text})
        people = [
            {"answer_id": person + 1, "answer": question.answer, "answer_confidence": "yes"}
            for person in range(PEOPLE)
        ]
        annotated.append(
            {
                **ids,
                "question_type": " ".join(question.text.rstrip("?").split()[:2]),
                "answer_type": answer_type(question.answer),
                "multiple_choice_answer": question.answer,
                "answers": people,
            }
        )
    return {"questions": listed}, {"annotations": annotated}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--images", type=int, help="number of images to write [default: all]")
    options = parser.parse_args()
    paths, questions = easy_vqa_set.load()
    if options.images is not None:
        questions = [question for question in questions if question.image < options.images]
    options.output.mkdir(parents=True, exist_ok=True)
    for name, contents in zip(("questions", "annotations"), convert(paths, questions), strict=True):
        (options.output / f"{name}.json").write_text(json.dumps(contents))
    print(f"{len(questions)} questions; images: {Path(paths[0]).parent}, pattern {{image_id}}.png")


if __name__ == "__main__":
    main()
