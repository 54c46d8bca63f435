"""The demo model on a public data set's test split, with the tools that a user would run."""

import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def run(tool, *arguments, codes=(0,)):
    command = [sys.executable, "-B", str(TOOLS / tool), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


def test_every_answer_is_the_references_token_for_token(demo):
    table = run("ask_easy_vqa.py", "--server", demo.address)
    [equal] = [line for line in table.splitlines() if line.startswith("token ids equal")]
    assert equal.split()[-1] == "9673", table


def test_with_vision_in_int8_at_most_one_answer_in_a_thousand_is_another(start):
    # The tool's exit code says whether any differs.
    table = run("ask_easy_vqa.py", "--server", start("--vision-dtype", "int8").address, codes=(0, 1))
    [equal] = [line for line in table.splitlines() if line.startswith("token ids equal")]
    assert int(equal.split()[-1]) >= 9673 * 0.999, table


def test_no_answer_is_lost_given_twice_or_changed_by_unruly_company(start):
    table = run("soak.py", "--server", start().address, "--answers", "2000", "--clients", "16")
    counts = dict(line.rsplit(maxsplit=1) for line in table.splitlines())
    assert int(counts["answers"]) >= 2000, table
    assert {counts[name] for name in ("wrong", "lost", "given twice or never asked")} == {"0"}, table
