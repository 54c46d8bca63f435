#!/usr/bin/env bash
# Tests deploy/ with the tools that those who operate it use. BLIP_SERVE_BIN names a built binary; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
tools=$(./tools.sh)
PATH=$tools/bin:$PATH exec "$tools/venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
