#!/usr/bin/env bash
# Runs the end-to-end tests against a built binary, named by BLIP_SERVE_BIN. Arguments go to pytest.
# Python packages come from tests/requirements.txt into a virtual environment in the cache that all clones share.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../scripts/python_environment.sh e2e requirements.txt)
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider e2e "$@"
