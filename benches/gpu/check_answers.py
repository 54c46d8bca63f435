"""Compares answers to the questions of `pack_data.py` with the reference. Needs no packages.

    blip-serve ask --input questions.jsonl --output answers.jsonl
    python3 benches/gpu/check_answers.py questions.jsonl answers.jsonl [--near-tie 0.05] [--most 0]

Exits with 1 if a question failed or is missing, if more than `--most` answers differ from the
reference beyond a near tie, or if less than 99 % of the answers are correct.
"""

import argparse
import collections
import json
import sys
from pathlib import Path


def verdict(record, near_tie):
    """Returns how an answer compares with the reference."""
    if "answer" not in record:
        return "failed"
    if record["token_ids"] == record["expected_token_ids"]:
        return "equal"
    return "near tie" if record["expected_margin"] < near_tie else "different"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--near-tie", type=float, default=0.0, help="largest margin of a near tie")
    parser.add_argument("--most", type=int, default=0, help="largest number of answers that may differ")
    options = parser.parse_args()
    questions = options.questions.read_text().splitlines()
    records = [json.loads(line) for line in options.answers.read_text().splitlines()]
    counts = collections.Counter(verdict(record, options.near_tie) for record in records)
    correct = sum(record.get("answer") == record["correct"] for record in records)
    print(f"{len(records)} of {len(questions)} questions, {correct} correct, " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    is_complete = len(records) == len(questions) and not counts["failed"]
    return 0 if is_complete and correct >= 0.99 * len(questions) and counts["different"] <= options.most else 1


if __name__ == "__main__":
    sys.exit(main())
