#!/usr/bin/env bash
# Tests the adapters for other APIs with the clients of these APIs. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary. The packages of requirements.txt and of node/ are installed
# into the cache that all clones share.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../../scripts/python_environment.sh adapters requirements.txt)
BLIP_NODE_MODULES=$(../../scripts/node_environment.sh adapters-node node)
export BLIP_NODE_MODULES
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
