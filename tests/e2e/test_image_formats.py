"""The image decoder equals Pillow on generated files, except for the listed differences."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "reference/images/image_differences.py"


def test_decoder_differs_from_pillow_only_as_listed():
    # `cargo test --no-run` builds the examples beside the server.
    program = Path(os.environ["BLIP_SERVE_BIN"]).parent / "examples/decode_files"
    # Pillow's libraries and those of grpcio must not share a process.
    run = subprocess.run([sys.executable, "-B", SCRIPT, program], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout.splitlines()[-1].split()[0]) >= 1271
