"""Checks the answers in results of `engine_speed`. Needs no packages.

    python3 benches/gpu/check_engine.py engine.json...

Exits with 1 if answers differ beyond near ties, if a file has no checks or none about cached
images, or if graphs or kernels that were selected on CUDA are not available.
"""

import json
import sys
from pathlib import Path


def faults(path):
    """Returns what is wrong with the results in a file."""
    results = json.loads(path.read_text()) if path.exists() else {}
    checks = results.get("checks")
    if not checks:
        return ["no checks"]
    unavailable = results["unavailable"]
    if unavailable:
        return [f"not available: {', '.join(unavailable)}"]
    if checks["cached_against_alone"]["cached_images"] == 0:
        return ["cached_against_alone: no image was cached"]
    compared = {name: check for name, check in checks.items() if check is not None}
    return [
        f"{name}: {check['different_beyond_near_ties']} of {check['answers']} answers differ"
        for name, check in compared.items()
        if check["different_beyond_near_ties"]
    ]


def main(paths):
    found = {path: faults(path) for path in paths}
    for path, lines in found.items():
        print(f"{path.name}: {'; '.join(lines) or 'answers are equal'}")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
