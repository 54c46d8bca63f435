#!/usr/bin/env bash
# Runs the end-to-end tests. BLIP_SERVE_BIN names a built binary. Arguments go to pytest.
# The Python packages of requirements.txt are installed into the cache that all clones share.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
venv=$(../scripts/python_environment.sh e2e requirements.txt)
# One test at a time uses less than one core, so two run at once. The tests of a file share servers.
# The longest files are not the last ones if the order stays.
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider \
  --numprocesses 2 --dist loadfile --no-loadscope-reorder e2e "$@"
