"""The server follows its OpenAPI document, from which schemathesis generates requests."""

import os
import subprocess
import sys
from pathlib import Path

KEY = "correct-horse-battery"
SEED = 7
EXAMPLES = 60
HOOKS = Path(__file__).with_name("openapi_hooks.py")


def test_generated_requests_are_answered_as_documented(start, tmp_path):
    # URLs are random, so that fetching is disabled. The API key may not change models.
    server = start("--auth-keys", KEY, "--fetch=false", "--admin", "--model", "demo,demo-caption,demo-match")
    command = [
        str(Path(sys.executable).with_name("st")),
        "run",
        f"{server.http}/openapi.json",
        "--checks",
        "all",
        "--seed",
        str(SEED),
        "--max-examples",
        str(EXAMPLES),
        "--header",
        f"authorization: Bearer {KEY}",
        "--continue-on-failure",
        "--request-timeout",
        "20",
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)}
    completed = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert completed.returncode == 0, completed.stdout[-6000:] + completed.stderr[-2000:]
    assert "generated" in completed.stdout and server.process.poll() is None
