#!/usr/bin/env bash
# Tests deploy/ with helm, kubectl, promtool and Prometheus. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
tools=$(./tools.sh)
PATH=$tools/bin:$PATH exec "$tools/venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
