"""The tables of docs/operations/capacity.md agree with the committed results."""

import sys

from conftest import ROOT, tool


def test_capacity_tables_equal_committed_results():
    result = tool(sys.executable, "-B", ROOT / "docs/operations/generate_capacity.py", "--check")
    assert result.returncode == 0, result.stderr
