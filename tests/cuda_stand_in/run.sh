#!/usr/bin/env bash
# Tests the engine and the server on stand-ins for NVIDIA's libraries, without a GPU. The first run
# downloads 530 MB. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary, BATCH_RUNNER_BIN the example `batch_runner` of `blip`.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
: "${BATCH_RUNNER_BIN:?set BATCH_RUNNER_BIN to the example batch_runner}"
CUDA_STAND_IN=$(python3 -B prepare.py)
export CUDA_STAND_IN
venv=$(../../scripts/python_environment.sh e2e ../requirements.txt)
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
