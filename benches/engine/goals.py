"""Sets what `run.sh` measured beside what this project wants of an H100 in f16: reads a folder of its results."""

import json
import sys
from pathlib import Path


def load(path):
    """A step's results; nothing if it did not end well."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def best_rate(engines, questions_per_image, cached):
    """The most questions a second in any table of this kind, and where: which engine, how many images a batch."""
    rows = [(row["questions_per_second"], f"{name}, {row['images']} images a batch")
            for name, engine in engines.items() for row in engine["throughput"]
            if row["questions_per_image"] == questions_per_image and row["cached"] == cached]
    return max(rows, default=None)


def main(folder):
    named = {path.stem.removeprefix("engine_"): load(path) for path in sorted(folder.glob("engine_f16*.json"))}
    engines = {name: engine for name, engine in named.items() if engine}
    lone = min(((engine["lone_question_ms"]["p50"], name) for name, engine in engines.items()), default=None)
    reference = load(folder / "reference.json")
    new = best_rate(engines, 1, False)
    ratio = None
    if new and reference and reference.get("one_question_a_picture"):
        ratio = new[0] / reference["one_question_a_picture"]["best"]["questions_per_second"], new[1]

    lines = [
        ("new images, one question each, questions/s", 3_000, new),
        ("new images, six questions each, questions/s", 14_000, best_rate(engines, 6, False)),
        ("remembered images, questions/s", 60_000,
         max(filter(None, (best_rate(engines, count, True) for count in (1, 6))), default=None)),
        ("times transformers in f16 at its best batch, new images", 3, ratio),
    ]
    print(f"{'':58} {'goal':>10} {'measured':>10}")
    for what, goal, found in lines:
        print(f"{what:58} {goal:>10,} " + (f"{found[0]:>10,.1f}  ({found[1]})" if found else "not measured"))
    what = "a lone question, p50, ms (at most)"
    print(f"{what:58} {5:>10,} " + (f"{lone[0]:>10,.1f}  ({lone[1]})" if lone else "not measured"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
