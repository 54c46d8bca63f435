"""Writes the results of the official VQA evaluation for random answers: crates/vqa_accuracy/tests.

The official program is not part of this repository. It is vqaEvaluation/vqaEval.py below
PythonEvaluationTools of github.com/GT-Vision-Lab/VQA, at commit c4e6a0e.

    python tests/reference/generate/vqa_accuracy_goldens.py --official vqaEval.py \\
        > crates/vqa_accuracy/tests/official.json
"""

import argparse
import contextlib
import copy
import importlib.util
import json
import random
import sys
from pathlib import Path

ANSWERS = [
    "red",
    "Red",
    "two",
    "2",
    "none",
    "0",
    "a dog",
    "the dog",
    "dog",
    "dont know",
    "don't know",
    "black/white",
    "black white",
    "black, white",
    "5 p.m.",
    "5 pm",
    "3.5",
    "1,000",
    "1000",
    "1,000/day",
    "t-shirt",
    "t shirt",
    "yes!",
    "yes",
    "(yes)",
    "no.",
    "it's",
    "its",
    "somebody'd",
    "youre",
    "an apple",
    "ten",
    "eleven",
    "a\tb",
    " left\n",
    "a - b-c",
    "what?!",
    "$5.00",
    "5.",
    ".5",
    "...",
    "u.s.a.",
    '"stop"',
    "stop sign",
    "STOP",
    "wouldn'tve",
    "lets",
    "Im",
    "x=y+z",
    "[a]",
    "{b}",
    "<c>",
    "d@e",
    "f_g",
    "`h`",
]
CASES = 400


class Table:
    """The interface that the official program expects of a data set and of results."""

    def __init__(self, qa):
        self.qa = qa

    def getQuesIds(self):  # noqa: N802, required by the official program
        return list(self.qa)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True)
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("official", options.official)
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    rng = random.Random(0)
    truths, results = {}, {}
    for case in range(CASES):
        few = rng.sample(ANSWERS, rng.randint(1, 4))
        people = [{"answer_id": person + 1, "answer": rng.choice(few)} for person in range(10)]
        truths[case] = {"answers": people, "question_type": f"type {case % 3}", "answer_type": "other"}
        results[case] = {"answer": rng.choice([*few, rng.choice(ANSWERS)])}
    # The program modifies its input.
    original = copy.deepcopy(truths)
    evaluation = official.VQAEval(Table(truths), Table(results), n=10)
    with contextlib.redirect_stdout(sys.stderr):
        evaluation.evaluate()
    normal = {text: evaluation.processDigitArticle(evaluation.processPunctuation(text)) for text in ANSWERS}
    cases = [
        {
            "people": [person["answer"] for person in original[case]["answers"]],
            "answer": results[case]["answer"],
            "percent": evaluation.evalQA[case],
        }
        for case in original
    ]
    json.dump(
        {"normal": normal, "cases": cases, "overall": evaluation.accuracy["overall"]}, sys.stdout, indent=0
    )


if __name__ == "__main__":
    main()
