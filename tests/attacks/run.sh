#!/usr/bin/env bash
# Attacks the server that BLIP_SERVE_BIN names. Arguments go to run.py.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to attack}"
venv=$(../../scripts/python_environment.sh e2e ../requirements.txt)
exec "$venv/bin/python" -B run.py "$@"
