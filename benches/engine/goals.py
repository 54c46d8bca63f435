"""Compares the results of benches/gpu/run.sh with the project's goals for an H100 in f16.

python3 benches/engine/goals.py out/gpu
"""

import json
import sys
from pathlib import Path


def load(path):
    """Returns the results of a step, or None if the step failed."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def best_rate(engines, questions_per_image, cached):
    """Returns the highest rate of one kind of traffic, with engine and batch size, or None."""
    rows = [
        (row["questions_per_second"], f"{name}, {row['images']} images per batch")
        for name, engine in engines.items()
        for row in engine["throughput"]
        if row["questions_per_image"] == questions_per_image and row["cached"] == cached
    ]
    return max(rows, default=None)


def single_question(engine):
    """Returns the median latency of a single question in milliseconds."""
    return next(value["p50"] for name, value in engine.items() if name.endswith("_question_ms"))


def main(folder):
    results = {
        path.stem.removeprefix("engine_"): load(path) for path in sorted(folder.glob("engine_f16*.json"))
    }
    engines = {name: engine for name, engine in results.items() if engine}
    single = min(((single_question(engine), name) for name, engine in engines.items()), default=None)
    reference = load(folder / "reference.json")
    new = best_rate(engines, 1, False)
    ratio = None
    if new and reference and reference.get("one_question_per_image"):
        ratio = new[0] / reference["one_question_per_image"]["best"]["questions_per_second"], new[1]
    cached = max(filter(None, (best_rate(engines, count, True) for count in (1, 6))), default=None)

    lines = [
        ("new images, one question each, questions/s", 3_000, new),
        ("new images, six questions each, questions/s", 14_000, best_rate(engines, 6, False)),
        ("cached images, questions/s", 60_000, cached),
        ("ratio to transformers in f16 at its best batch, new images", 3, ratio),
        ("single question, p50, ms (at most)", 5, single),
    ]
    print(f"{'':58} {'goal':>10} {'measured':>10}")
    for name, goal, measured in lines:
        value = f"{measured[0]:>10,.1f}  ({measured[1]})" if measured else "not measured"
        print(f"{name:58} {goal:>10,} {value}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
