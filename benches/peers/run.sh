#!/usr/bin/env bash
# Measures the release build beside its peers; results go to benches/peers/results/<date>. Arguments go to peers.py.
# Python packages come from requirements.txt into a virtual environment in the cache that all clones share (7 GB on disk).
set -euo pipefail
cd "$(dirname "$0")"

cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
key=$( (cat requirements.txt; python3 -c 'import sys; print(sys.version, sys.executable)') | sha256sum | cut -c1-16)
venv=$cache/peers-$key

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
# Triton finds Python by the path.
PATH=$venv/bin:$PATH exec "$venv/bin/python" -B peers.py --bin ../../target/release/blip-serve \
  --output "results/$(date +%F)" "$@"
