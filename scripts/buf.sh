#!/usr/bin/env bash
# Runs buf, which checks the contract in proto/. The first call installs the version of
# scripts/buf/package.json from npm into the cache that all clones share.
#
#   scripts/buf.sh lint
#   scripts/buf.sh breaking --against proto/released.binpb
set -euo pipefail
cd "$(dirname "$0")/.."

command -v npm >/dev/null || { echo "buf: npm is missing: install Node 20 or later" >&2; exit 1; }
cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
key=$( (cat scripts/buf/package-lock.json; node --version; uname -sm) | sha256sum | cut -c1-16)
modules=$cache/buf-$key

mkdir -p "$cache"
exec 9>"$modules.lock"
flock 9
if [[ ! -e $modules/.complete ]]; then
  rm -rf "$modules"
  mkdir -p "$modules"
  cp scripts/buf/package{,-lock}.json "$modules/"
  # The program is an optional package of the platform. No script of a package runs.
  (cd "$modules" && npm ci --silent --ignore-scripts) >&2
  touch "$modules/.complete"
fi
flock -u 9
exec "$modules/node_modules/.bin/buf" "$@"
