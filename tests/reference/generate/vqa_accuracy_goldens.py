"""Writes what the official VQA evaluation makes of made-up answers, for the tests of crates/vqa_accuracy.

The program itself is not in this tree: PythonEvaluationTools/vqaEvaluation/vqaEval.py of github.com/GT-Vision-Lab/VQA, at
commit c4e6a0e.

    python tests/reference/generate/vqa_accuracy_goldens.py --official vqaEval.py > crates/vqa_accuracy/tests/official.json
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
    "red", "Red", "two", "2", "none", "0", "a dog", "the dog", "dog", "dont know", "don't know", "black/white", "black white",
    "black, white", "5 p.m.", "5 pm", "3.5", "1,000", "1000", "1,000/day", "t-shirt", "t shirt", "yes!", "yes", "(yes)", "no.",
    "it's", "its", "somebody'd", "youre", "an apple", "ten", "eleven", "a\tb", " left\n", "a - b-c", "what?!", "$5.00", "5.", ".5",
    "...", "u.s.a.", "\"stop\"", "stop sign", "STOP", "wouldn'tve", "lets", "Im", "x=y+z", "[a]", "{b}", "<c>", "d@e", "f_g", "`h`",
]  # fmt: skip
CASES = 400


class Table:
    """What the program takes for a data set, or for results."""

    def __init__(self, qa):
        self.qa = qa

    def getQuesIds(self):  # noqa: N802, the program calls it so
        return list(self.qa)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True)
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("official", options.official)
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    chance = random.Random(0)
    truths, results = {}, {}
    for case in range(CASES):
        few = chance.sample(ANSWERS, chance.randint(1, 4))
        people = [{"answer_id": person + 1, "answer": chance.choice(few)} for person in range(10)]
        truths[case] = {"answers": people, "question_type": f"type {case % 3}", "answer_type": "other"}
        results[case] = {"answer": chance.choice([*few, chance.choice(ANSWERS)])}
    # The program changes what it is given.
    given = copy.deepcopy(truths)
    evaluation = official.VQAEval(Table(truths), Table(results), n=10)
    with contextlib.redirect_stdout(sys.stderr):
        evaluation.evaluate()
    normal = {text: evaluation.processDigitArticle(evaluation.processPunctuation(text)) for text in ANSWERS}
    cases = [
        {"people": [person["answer"] for person in given[case]["answers"]], "answer": results[case]["answer"],
         "percent": evaluation.evalQA[case]}
        for case in given
    ]  # fmt: skip
    json.dump({"normal": normal, "cases": cases, "overall": evaluation.accuracy["overall"]}, sys.stdout, indent=0)


if __name__ == "__main__":
    main()
