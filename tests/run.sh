#!/usr/bin/env bash
# Runs the end-to-end tests against a built binary, named by BLIP_SERVE_BIN. Arguments go to pytest.
# Python packages come from tests/requirements.txt into a virtual environment in the cache that all clones share.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
# Another set of packages or another Python is another environment, so nothing is ever upgraded in place.
key=$( (cat requirements.txt; python3 -c 'import sys; print(sys.version, sys.executable)') | sha256sum | cut -c1-16)
venv=$cache/e2e-$key

mkdir -p "$cache"
exec 9>"$venv.lock"
flock 9
if [[ ! -e $venv/.complete ]]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
  touch "$venv/.complete"
fi
flock -u 9
exec 9>&-
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider e2e "$@"
