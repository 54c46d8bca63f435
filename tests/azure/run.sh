#!/usr/bin/env bash
# Tests data sets in Azure Blob Storage on Azurite, Microsoft's server for tests. Arguments go to
# pytest. BLIP_SERVE_BIN names a built binary. The packages of package.json (360 MB) and of
# requirements.txt are installed into the cache that all clones share.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../../scripts/python_environment.sh azure requirements.txt)
BLIP_NODE_MODULES=$(../../scripts/node_environment.sh azure-node .)
export BLIP_NODE_MODULES
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
