"""Compares the results of benches/gpu/run.sh with the project's goals for an H200.

The format is f16 where nothing else is said.

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


def best_rate(engine, questions_per_image, cached):
    """Returns the highest rate of one kind of traffic, with its batch size, or None."""
    rows = [
        (row["questions_per_second"], f"{row['images']} images per batch")
        for row in engine.get("throughput", ())
        if row["questions_per_image"] == questions_per_image and row["cached"] == cached
    ]
    return max(rows, default=None)


def server_rate(folder, name):
    """Returns the rate of a load test of the server, or None."""
    report = load(folder / f"server_{name}.json")
    return report and (report["questions_per_s"], f"{report['failed']} failed")


def main(folder):
    # The others are short checks, or have other options than the server.
    engine, fp8 = (load(folder / f"engine_{name}.json") or {} for name in ("default", "fp8"))
    single = engine.get("single_question_ms")
    single = single and (single["p50"], f"{single['runs']} questions")
    reference = load(folder / "reference.json")
    new, cached = best_rate(engine, 1, False), best_rate(engine, 6, True)
    ratio = None
    if new and reference and reference.get("one_question_per_image", {}).get("best"):
        ratio = new[0] / reference["one_question_per_image"]["best"]["questions_per_second"], new[1]

    lines = [
        ("new images, one question each, questions/s", 3_000, new),
        ("the same through the server", 2_400, server_rate(folder, "new_images")),
        ("new images with FP8, questions/s", 4_000, best_rate(fp8, 1, False)),
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
