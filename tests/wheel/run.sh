#!/usr/bin/env bash
# Tests the wheel in packaging/wheel with the built program. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary. The wheel of the tests packs this one.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../../scripts/python_environment.sh client ../client/requirements.txt)
# The tests set these variables themselves.
unset BLIP_SERVE__SERVER BLIP_SERVE__API_KEY LD_LIBRARY_PATH
PYTHONPATH=$(cd ../.. && pwd)/clients/python/src exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
