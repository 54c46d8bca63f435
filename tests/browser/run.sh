#!/usr/bin/env bash
# Tests the page at `/` and Swagger UI at `/docs` in Chromium. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary. UPDATE_IMAGES=1 writes the screenshots in docs/images.
# The packages of requirements.txt are installed into the cache that all clones share.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
BLIP_CHROMIUM=$(./chromium.sh)
export BLIP_CHROMIUM
venv=$(../../scripts/python_environment.sh browser requirements.txt)
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
