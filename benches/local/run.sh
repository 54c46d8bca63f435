#!/usr/bin/env bash
# Compares --local with a server, on the release build. Arguments go to compare.py.
# Results go to benches/results/local.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${BLIP_SERVE_BIN:-target/release/blip-serve} out=benches/results/local
mkdir -p "$out"
python3 -B benches/local/compare.py --bin "$program" "$@" | tee "$out/compare.txt"
python3 benches/write_manifest.py "$out" --suite local --program "$program" --command "benches/local/run.sh $*"
