#!/usr/bin/env bash
# Starts the release build, runs soak.py against it and stops it.
# Results go to benches/results/soak. Arguments go to soak.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${BLIP_SERVE_BIN:-target/release/blip-serve}
python=$(scripts/python_environment.sh e2e tests/requirements.txt)/bin/python
out=benches/results/soak
log=$(mktemp)
"$binary" serve --device cpu --engines 2 --engine-threads 1 --answer-cache-bytes 0 \
  --grpc-listen 127.0.0.1:0 --http-listen off --metrics-listen off >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -f "$log"' EXIT
# The server prints one line with its addresses when it is ready.
until grep -q ' ready: ' "$log"; do
  kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.1
done
address=$(sed -nE 's/.* grpc http:\/\/([^ ,]+).*/\1/p' "$log")

mkdir -p "$out"
"$python" -B benches/soak/soak.py --server "$address" --pid "$server" --answers 100000 --clients 32 "$@" |
  tee "$out/soak.txt"
python3 benches/write_manifest.py "$out" --suite soak --program "$binary" --command "benches/soak/run.sh $*"
