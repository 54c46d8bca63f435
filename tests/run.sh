#!/usr/bin/env bash
# Runs the end-to-end tests. BLIP_SERVE_BIN names a built binary. Arguments go to pytest.
# The Python packages of requirements.txt are installed into the cache that all clones share.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../scripts/python_environment.sh e2e requirements.txt)
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider e2e "$@"
