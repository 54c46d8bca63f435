#!/usr/bin/env bash
# Tests the Python client in clients/python with the built program. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../../scripts/python_environment.sh client requirements.txt)
# The tests set the server and the key themselves.
unset BLIP_SERVE__SERVER BLIP_SERVE__API_KEY
PYTHONPATH=$(cd ../.. && pwd)/clients/python/src exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
