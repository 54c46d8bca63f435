#!/usr/bin/env bash
# Runs buf, which checks the contract in proto/. The first call installs the version of
# scripts/buf/package.json from npm into the cache that all clones share.
#
#   scripts/buf.sh lint
#   scripts/buf.sh breaking --against proto/released.binpb
set -euo pipefail
cd "$(dirname "$0")/.."

modules=$(scripts/node_environment.sh buf scripts/buf)
exec "$modules/.bin/buf" "$@"
