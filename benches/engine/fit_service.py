"""Fits the scheduler's cost model to the results of `engine_speed`.

    python benches/engine/fit_service.py benches/results/engine-h100/engine_f16.json

It prints the seconds of a batch, of each encoded image and of each question, as in service.json of
the scheduler's simulator. All batches of `engine_speed` have the same number of decode steps, so
that their cost is part of the batch's. The fit minimizes relative errors, so that small batches
count as much as large ones.
"""

import argparse
import json
from pathlib import Path

import numpy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="JSON output of engine_speed")
    rows = json.loads(parser.parse_args().results.read_text())["throughput"]
    seconds = numpy.array([row["batch_ms_median"] / 1e3 for row in rows])
    columns = [
        [1, 0 if row["cached"] else row["images"], row["images"] * row["questions_per_image"]] for row in rows
    ]
    columns = numpy.array(columns, dtype=float)
    # Costs cannot be negative. The most negative one is removed, then the rest is fitted again.
    positive = [0, 1, 2]
    while True:
        fit, *_ = numpy.linalg.lstsq(
            columns[:, positive] / seconds[:, None], numpy.ones(len(rows)), rcond=None
        )
        if (fit >= 0).all():
            break
        positive.pop(int(fit.argmin()))
    costs = numpy.zeros(3)
    costs[positive] = fit
    error = numpy.abs(columns @ costs / seconds - 1)
    result = {
        "batch": float(f"{costs[0]:.3g}"),
        "image": float(f"{costs[1]:.3g}"),
        "question": float(f"{costs[2]:.3g}"),
        "step": 0.0,
        "median_relative_error": round(float(numpy.median(error)), 3),
        "rows": len(rows),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
