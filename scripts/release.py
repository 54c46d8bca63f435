#!/usr/bin/env python3
"""Checks the versions of a release, and prints its notes.

    release.py check [--tag v0.1.0]     every file states the version of Cargo.toml, and of the tag
    release.py notes --tag v0.1.0       the section of CHANGELOG.md

With --tag, CHANGELOG.md must have a section `## [0.1.0]`.
"""

import argparse
import re
import sys
from pathlib import Path

# Files that state the version, with the expression that finds it.
VERSIONS = (
    ("Cargo.toml", r'(?m)^version = "([^"]+)"'),
    ("clients/python/src/blip_serve_client/_version.py", r'VERSION = "([^"]+)"'),
    ("deploy/helm/blip-serve/Chart.yaml", r"(?m)^version: (\S+)"),
    ("deploy/helm/blip-serve/Chart.yaml", r"(?m)^appVersion: (\S+)"),
    ("deploy/Dockerfile", r'image\.version="([^"]+)"'),
    ("deploy/kserve/serving-runtime.yaml", r"image: \S+:([^-\s]+)-cpu"),
    ("deploy/jobs/caption-shards.yaml", r"image: \S+:([^-\s]+)-cuda"),
)
# Files that state the release of torch whose C++ interface the program uses.
TORCH = (
    ("scripts/libtorch-cpu.txt", r"(?m)^torch==([\w.]+)"),
    ("scripts/libtorch-cuda.txt", r"(?m)^torch==([\w.]+)"),
    ("packaging/wheel/pyproject.toml", r'"torch==([\w.]+)"'),
)


def differences(root, places, expected=None):
    """Returns a line for each place whose version differs from the first one or `expected`."""
    lines = []
    for file, expression in places:
        found = re.search(expression, (root / file).read_text())
        version = found[1] if found else "none"
        expected = expected or version
        if version != expected:
            lines.append(f"{file}: version {version}, expected {expected}")
    return lines


def section(changelog, version):
    """Returns the section of a version without its heading, or None."""
    found = re.search(rf"(?ms)^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", changelog)
    return found[1].strip() if found else None


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("check", "notes"))
    parser.add_argument("--tag", help="the tag of the release: v and the version")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    options = parser.parse_args(arguments)
    version, problems = None, []
    if options.tag:
        version = options.tag.removeprefix("v")
        if not re.fullmatch(r"v\d+\.\d+\.\d+", options.tag):
            problems.append(f"tag: {options.tag}, expected v and three numbers, for example v0.1.0")
    elif options.command == "notes":
        parser.error("notes needs --tag")
    problems += differences(options.root, VERSIONS, version)
    problems += differences(options.root, TORCH)
    notes = section((options.root / "CHANGELOG.md").read_text(), version) if version else ""
    if notes is None:
        problems.append(f"CHANGELOG.md: no section [{version}]")
    for problem in problems:
        print(f"release: {problem}", file=sys.stderr)
    if not problems and options.command == "notes":
        print(notes)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
