"""Folders of gigabytes, one set of shapes at a time, and the table that the run ends with."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import reference
import torch
import transformers
from released import write_shapes

COLUMNS = ("checkpoint", "weights", "first start", "from the cache", "resident", "compared", "largest difference")
TABLE = pytest.StashKey()


class Workshop:
    """Makes the files of one set of shapes, and what the reference makes of them; the next set takes their place."""

    def __init__(self, folder):
        self.folder, self.made, self.of_made = folder, None, None

    def shapes(self, preset, **options):
        """(folder, Reference)."""
        if self.made != (preset, options):
            self.clear()
            write_shapes(self.folder / preset, preset, **options)
            self.made, self.of_made = (preset, options), (self.folder / preset, reference.compute(self.folder / preset))
        return self.of_made

    def clear(self):
        if self.made:
            shutil.rmtree(self.of_made[0])
            self.made = None


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    workshop = Workshop(tmp_path_factory.mktemp("shapes"))
    yield workshop
    workshop.clear()


@pytest.fixture(scope="session")
def table(pytestconfig):
    """Rows by the name of their checkpoint, each a dict by COLUMNS."""
    return pytestconfig.stash.setdefault(TABLE, {})


def measured_on():
    """What was measured where."""
    command = ["git", "describe", "--always", "--abbrev=7", "--dirty", "--exclude=*"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout.strip()
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()).group(1)
    return f"commit {commit}, {os.cpu_count()} CPUs ({cpu}), torch {torch.__version__}, transformers {transformers.__version__}"


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
