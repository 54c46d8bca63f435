#!/usr/bin/env python3
"""Checks that the files of the chart equal their sources, or copies them.

    chart_files.py            reports the files that differ
    chart_files.py --update   copies the sources into the chart

Helm packages only what is in the chart's folder, and warns about links that leave it. So the chart
has copies.
"""

import argparse
import sys
from pathlib import Path

CHART = Path("deploy/helm/blip-serve/files")
SOURCES = {
    "dashboard.json": Path("deploy/grafana/dashboard.json"),
    "rules.yaml": Path("deploy/prometheus/rules.yaml"),
    "shapes.png": Path("models/demo/demo.png"),
}


def problem(root, name, source):
    """Returns what is wrong with a file of the chart, or None."""
    copy = root / CHART / name
    if copy.is_symlink():
        return f"{CHART / name} is a link, which a packaged chart does not contain"
    if not copy.is_file():
        return f"{CHART / name} is missing"
    if copy.read_bytes() != (root / source).read_bytes():
        return f"{CHART / name} differs from {source}"
    return None


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--update", action="store_true", help="copy the sources into the chart")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="root of the repository")
    options = parser.parse_args(arguments)
    problems = 0
    for name, source in SOURCES.items():
        found = problem(options.root, name, source)
        if found and options.update:
            copy = options.root / CHART / name
            copy.unlink(missing_ok=True)
            copy.write_bytes((options.root / source).read_bytes())
            print(f"chart: {CHART / name} copied from {source}")
        elif found:
            problems += 1
            print(f"chart: {found}: run scripts/chart_files.py --update", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
