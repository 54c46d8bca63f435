#!/usr/bin/env bash
# Tests examples/python/ray_data.py on a Ray cluster of this machine. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../../scripts/python_environment.sh ray requirements.txt)
root=$(cd ../.. && pwd)
unset BLIP_SERVE__SERVER BLIP_SERVE__API_KEY RAY_ADDRESS
# Ray's workers inherit the path. The servers are those of the client's tests.
export PYTHONPATH=$root/clients/python/src:$root/examples/python:$root/tests/client
export PYTHONDONTWRITEBYTECODE=1
# Ray reports nothing to its makers.
export RAY_USAGE_STATS_ENABLED=0
# Its server can take longer to start than the default of 30 s.
export RAY_gcs_server_port_wait_time_s=120
exec "$venv/bin/python" -m pytest -p no:cacheprovider . "$@"
