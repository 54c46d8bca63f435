"""The server does what its OpenAPI document says: schemathesis makes requests out of the document, right and wrong ones."""

import os
import subprocess
import sys
from pathlib import Path

KEY = "correct-horse-battery"
SEED = 7
EXAMPLES = 60
HOOKS = Path(__file__).with_name("openapi_hooks.py")


def test_requests_made_from_the_document_are_answered_as_it_says(start, tmp_path):
    # Addresses are made up, so nothing may be fetched; and so are models, which this key may not change.
    server = start("--auth-keys", KEY, "--fetch-off", "--admin", "--model", "demo,demo-caption,demo-match")
    command = [
        str(Path(sys.executable).with_name("st")), "run", f"{server.http}/openapi.json",
        "--checks", "all", "--seed", str(SEED), "--max-examples", str(EXAMPLES),
        "--header", f"authorization: Bearer {KEY}", "--continue-on-failure", "--request-timeout", "20",
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "generated" in done.stdout and server.process.poll() is None
