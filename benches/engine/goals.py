"""Compares the results of benches/gpu/run.sh with the project's goals for an H200 in f16.

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
        for row in engine.get("throughput", ())
        if row["questions_per_image"] == questions_per_image and row["cached"] == cached
    ]
    return max(rows, default=None)


def single_question(engine):
    """Returns the median latency of a single question in milliseconds."""
    return next(value["p50"] for name, value in engine.items() if name.endswith("_question_ms"))


def server_rate(folder, name):
    """Returns the rate of a load test of the server, or None."""
    report = load(folder / f"server_{name}.json")
    return report and (report["questions_per_s"], f"{report['failed']} failed")


def main(folder):
    results = {path.stem.removeprefix("engine_"): load(path) for path in sorted(folder.glob("engine_*.json"))}
    # The others are short checks, or have other options than the server.
    engines = {name: engine for name, engine in results.items() if name == "default" and engine}
    single = min(((single_question(engine), name) for name, engine in engines.items()), default=None)
    reference = load(folder / "reference.json")
    new, cached = best_rate(engines, 1, False), best_rate(engines, 6, True)
    ratio = None
    if new and reference and reference.get("one_question_per_image", {}).get("best"):
        ratio = new[0] / reference["one_question_per_image"]["best"]["questions_per_second"], new[1]

    lines = [
        ("new images, one question each, questions/s", 3_000, new),
        ("the same through the server", 2_400, server_rate(folder, "new_images")),
        ("cached images, six questions each, questions/s", 70_000, cached),
        ("the same through the server", 56_000, server_rate(folder, "cached_images")),
        ("ratio to transformers in f16 at its best batch, new images", 3, ratio),
        ("single question, p50, ms (at most)", 4.5, single),
    ]
    print(f"{'':58} {'goal':>10} {'measured':>10}")
    for name, goal, measured in lines:
        value = f"{measured[0]:>10,.1f}  ({measured[1]})" if measured else "not measured"
        print(f"{name:58} {goal:>10,} {value}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
