#!/usr/bin/env bash
# Prints the folder of a virtual environment with the packages of a requirements file. The first
# call creates it in the cache that all clones share.
#
#   scripts/python_environment.sh NAME REQUIREMENTS
set -euo pipefail

name=$1 requirements=$2
cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
# Other packages or another Python give another environment. No environment is upgraded in place.
key=$( (cat "$requirements"; python3 -c 'import sys; print(sys.version, sys.executable)') | sha256sum | cut -c1-16)
venv=$cache/$name-$key

mkdir -p "$cache"
exec 9>"$venv.lock"
flock 9
if [[ ! -e $venv/.complete ]]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" >&2
  touch "$venv/.complete"
fi
echo "$venv"
