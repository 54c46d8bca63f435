"""Writes manifest.json beside the results of a benchmark: commit, machine, date and command.

    python3 benches/write_manifest.py FOLDER --suite NAME --program BLIP_SERVE [--command TEXT]

The commit is the one that the program reports. The machine is the one that runs this script.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path


def commit(program):
    """Returns the commit in `blip-serve --version`, or the whole line if it names none."""
    version = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    found = re.search(r"commit ([0-9a-f]+)", version)
    return found.group(1) if found else version


def machine():
    """Returns the processor, its number of cores and the GPUs."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    parts = [f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"]
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True).stdout
        parts += [line.strip() for line in gpus.splitlines()]
    return "; ".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suite", required=True, help="name of the benchmark suite")
    parser.add_argument("--program", required=True, help="measured blip-serve program")
    parser.add_argument("--command", required=True, help="command that produced the results")
    options = parser.parse_args()
    manifest = {
        "suite": options.suite,
        "commit": commit(options.program),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": machine(),
        "command": options.command,
    }
    (options.folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
