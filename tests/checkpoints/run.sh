#!/usr/bin/env bash
# Serves every public BLIP checkpoint by its name and compares it with transformers. Arguments go to
# pytest. The checkpoints have their full size and random weights. BLIP_SERVE_BIN names a built
# binary.
#
# Needs 12 GB of disk in TMPDIR, 8 GB of memory, and 7 GB of disk for the Python packages.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../../scripts/python_environment.sh checkpoints requirements.txt)
# The hub and the client come from the end-to-end tests, weights and reference from the golden
# files.
PYTHONPATH=../e2e:../reference/generate exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
