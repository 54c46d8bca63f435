"""The demo model on the test split of a public data set, with the scripts for users."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASK, SOAK = "tests/reference/ask_easy_vqa.py", "benches/soak/soak.py"


def run(script, *arguments, codes=(0,)):
    """Runs a script. Returns its output."""
    command = [sys.executable, "-B", str(ROOT / script), *arguments]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode in codes, completed.stdout + completed.stderr
    return completed.stdout


def test_easy_vqa_answers_equal_reference_tokens(demo):
    table = run(ASK, "--server", demo.address)
    [equal] = [line for line in table.splitlines() if line.startswith("token ids equal")]
    assert equal.split()[-1] == "9673", table


def equal_answers(server):
    # The script exits with 1 if an answer differs.
    table = run(ASK, "--server", server.address, codes=(0, 1))
    [equal] = [line for line in table.splitlines() if line.startswith("token ids equal")]
    return int(equal.split()[-1])


def test_easy_vqa_bf16_changes_at_most_0_1_percent(start):
    assert equal_answers(start("--dtype", "bf16")) >= 9673 * 0.999


def test_easy_vqa_int8_changes_at_most_0_1_percent(start):
    assert equal_answers(start("--dtype", "int8")) >= 9673 * 0.999


def test_soak_loses_duplicates_and_changes_no_answer(start):
    table = run(SOAK, "--server", start().address, "--answers", "2000", "--clients", "16")
    counts = dict(line.rsplit(maxsplit=1) for line in table.splitlines())
    assert int(counts["answers"]) >= 2000, table
    assert {counts[name] for name in ("wrong", "lost", "duplicate or not requested")} == {"0"}, table
