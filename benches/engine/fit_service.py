"""Fits the scheduler's service curve to what `engine_speed` measured.

    python benches/engine/fit_service.py benches/gpu/results/2026-11-23-h100-plain/engine_f16.json

Prints the seconds that a batch costs in any case, for each image encoded and for each question: the curve of
crates/scheduler/examples/simulate/service.json. Decode steps are the same in every batch of `engine_speed`, so their
cost is part of the batch's. Relative errors are weighted alike, so that small batches count as much as large ones.
"""

import argparse
import json
from pathlib import Path

import numpy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path)
    rows = json.loads(parser.parse_args().measured.read_text())["throughput"]
    seconds = numpy.array([row["batch_ms_median"] / 1e3 for row in rows])
    columns = [[1, 0 if row["cached"] else row["images"], row["images"] * row["questions_per_image"]] for row in rows]
    columns = numpy.array(columns, dtype=float)
    # No part can have a negative cost: what comes out below zero is left out, and the rest fitted again.
    kept = [0, 1, 2]
    while True:
        found, *_ = numpy.linalg.lstsq(columns[:, kept] / seconds[:, None], numpy.ones(len(rows)), rcond=None)
        if (found >= 0).all():
            break
        kept.pop(int(found.argmin()))
    curve = numpy.zeros(3)
    curve[kept] = found
    error = numpy.abs(columns @ curve / seconds - 1)
    print(json.dumps({
        "batch": float(f"{curve[0]:.3g}"), "image": float(f"{curve[1]:.3g}"), "question": float(f"{curve[2]:.3g}"), "step": 0.0,
        "median_relative_error": round(float(numpy.median(error)), 3), "rows": len(rows),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
