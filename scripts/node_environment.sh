#!/usr/bin/env bash
# Prints the `node_modules` folder with the packages of a folder's package-lock.json. The first call
# installs them in the cache that all clones share.
#
#   scripts/node_environment.sh NAME FOLDER
set -euo pipefail

name=$1 folder=$2
command -v npm >/dev/null || { echo "$name: npm is missing: install Node 20 or later" >&2; exit 1; }
cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
# Some packages have programs of the platform.
key=$( (cat "$folder/package-lock.json"; node --version; uname -sm) | sha256sum | cut -c1-16)
modules=$cache/$name-$key

mkdir -p "$cache"
exec 9>"$modules.lock"
flock 9
if [[ ! -e $modules/.complete ]]; then
  rm -rf "$modules"
  mkdir -p "$modules"
  cp "$folder"/package{,-lock}.json "$modules/"
  # No script of a package runs.
  (cd "$modules" && npm ci --silent --ignore-scripts) >&2
  touch "$modules/.complete"
fi
echo "$modules/node_modules"
