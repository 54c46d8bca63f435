#!/usr/bin/env bash
# Tests several servers at once, with the example clients and with proxies. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary, BLIP_EXAMPLE_BIN the Rust example.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
: "${BLIP_EXAMPLE_BIN:?set BLIP_EXAMPLE_BIN to the program of examples/rust}"
export BLIP_FLEET_TOOLS
BLIP_FLEET_TOOLS=$(./tools.sh)
PYTHONPATH=$(cd ../.. && pwd)/clients/python/src:$BLIP_FLEET_TOOLS/stubs
export PYTHONPATH
exec "$BLIP_FLEET_TOOLS/venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
