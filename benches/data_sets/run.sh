#!/usr/bin/env bash
# Compares a command on tar shards with a load test, on the release build.
# Arguments go to compare.py. Results go to benches/results/data_sets.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${BLIP_SERVE_BIN:-target/release/blip-serve} out=benches/results/data_sets
mkdir -p "$out"
python3 -B benches/data_sets/compare.py "$program" "$@" | tee "$out/compare.txt"
python3 benches/write_manifest.py "$out" --suite data_sets --program "$program" \
  --command "benches/data_sets/run.sh $*"
