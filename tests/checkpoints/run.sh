#!/usr/bin/env bash
# Serves every public BLIP checkpoint by its name, at its true size with random weights, and compares it with transformers.
# BLIP_SERVE_BIN names a built binary; arguments go to pytest. Needs 12 GB of disk in TMPDIR and 8 GB of memory.
# Python packages come from requirements.txt into a virtual environment in the cache that all clones share (7 GB on disk).
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../../scripts/python_environment.sh checkpoints requirements.txt)
# The hub and the client are those of the end-to-end tests; random weights and the reference are those of the goldens.
PYTHONPATH=../e2e:../reference/generate exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
