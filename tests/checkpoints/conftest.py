"""Fixtures: checkpoint folders, one set of shapes at a time, and the summary table of the run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import reference_cases
import torch
import transformers
from released_checkpoints import write_shapes

COLUMNS = (
    "checkpoint",
    "weights",
    "first start",
    "from the cache",
    "resident",
    "compared",
    "largest difference",
)
TABLE = pytest.StashKey()


class ShapesFolder:
    """A folder with the files of one set of shapes, and their reference results.

    The next set replaces them.
    """

    def __init__(self, folder):
        self.folder, self.current, self.result = folder, None, None

    def shapes(self, preset, **options):
        """Returns (folder, Reference) of a set of shapes."""
        if self.current != (preset, options):
            self.clear()
            write_shapes(self.folder / preset, preset, **options)
            folder = self.folder / preset
            self.current, self.result = (preset, options), (folder, reference_cases.compute(folder))
        return self.result

    def clear(self):
        """Deletes the files."""
        if self.current:
            shutil.rmtree(self.result[0])
            self.current = None


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory):
    shapes_folder = ShapesFolder(tmp_path_factory.mktemp("shapes"))
    yield shapes_folder
    shapes_folder.clear()


@pytest.fixture(scope="session")
def table(pytestconfig):
    """The rows of the table by checkpoint. Each is a dict with keys of COLUMNS."""
    return pytestconfig.stash.setdefault(TABLE, {})


def measured_on():
    """Returns commit, processor and library versions."""
    command = ["git", "describe", "--always", "--abbrev=7", "--dirty", "--exclude=*"]
    commit = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    ).stdout.strip()
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()).group(1)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"commit {commit}, {os.cpu_count()} CPUs ({cpu}), {versions}"


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(TABLE, {})
    if not rows:
        return
    terminalreporter.section("released checkpoints")
    terminalreporter.write_line(measured_on() + "\n")
    terminalreporter.write_line("| " + " | ".join(COLUMNS) + " |")
    terminalreporter.write_line("|---" * len(COLUMNS) + "|")
    for name, row in rows.items():
        cells = [name, *(row.get(column, "not reached") for column in COLUMNS[1:])]
        terminalreporter.write_line("| " + " | ".join(cells) + " |")
