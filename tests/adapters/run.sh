#!/usr/bin/env bash
# Tests the adapters for other APIs with the clients of these APIs. Arguments go to pytest.
# BLIP_SERVE_BIN names a built binary. The packages of requirements.txt and of node/ are installed
# into the cache that all clones share.
set -euo pipefail
cd "$(dirname "$0")"

: "${BLIP_SERVE_BIN:?set BLIP_SERVE_BIN to the blip-serve program to test}"
command -v npm >/dev/null || { echo "adapter tests: npm is missing: install Node 20 or later" >&2; exit 1; }
venv=$(../../scripts/python_environment.sh adapters requirements.txt)
cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
key=$( (cat node/package-lock.json; node --version) | sha256sum | cut -c1-16)
modules=$cache/adapters-node-$key
exec 9>"$modules.lock"
flock 9
if [[ ! -e $modules/.complete ]]; then
  rm -rf "$modules"
  mkdir -p "$modules"
  cp node/package{,-lock}.json "$modules/"
  (cd "$modules" && npm ci --silent --ignore-scripts) >&2
  touch "$modules/.complete"
fi
flock -u 9
export BLIP_NODE_MODULES=$modules/node_modules
exec "$venv/bin/python" -B -m pytest -p no:cacheprovider . "$@"
