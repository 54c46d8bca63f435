"""Checks every crate of the build against deny.toml: licence, source and banned names.

`cargo deny check` does this and more. This script needs only cargo and Python.
"""

import json
import re
import subprocess
import sys
import tomllib

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def is_allowed(expression: str, allow: set[str]) -> bool:
    """Returns whether the allowed licences satisfy an SPDX expression."""
    tokens = re.findall(
        r"\(|\)|AND|OR|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.-]+)?", expression.replace("/", " OR ")
    )
    python = " ".join(
        {"AND": "and", "OR": "or", "(": "(", ")": ")"}.get(token, str(token in allow)) for token in tokens
    )
    return bool(python) and bool(eval(python, {"__builtins__": {}}))  # only True, False, and, or, brackets


def main() -> int:
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    allow = set(rules["licenses"]["allow"])
    banned = {rule["crate"]: rule["reason"] for rule in rules["bans"]["deny"]}
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    command += ["--filter-platform", rules["graph"]["targets"][0]]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]
    problems = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["name"] in banned:
            problems.append(f"{name} is banned: {banned[package['name']]}")
        if package["source"] not in (None, CRATES_IO):
            problems.append(f"{name} comes from {package['source']}")
        if not is_allowed(package["license"] or "", allow):
            problems.append(f"{name} has licence {package['license']!r}, which deny.toml does not allow")
    for problem in problems:
        print(f"dependencies: {problem}", file=sys.stderr)
    print(f"dependencies: {len(packages)} crates checked, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
