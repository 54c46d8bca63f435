#!/usr/bin/env bash
# Compares a command on data sets with a load test: run.sh [--out FOLDER] [options of compare.py]
# Uses the release build. Results go to benches/results/data_sets or to FOLDER.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${BLIP_SERVE_BIN:-target/release/blip-serve} out=benches/results/data_sets all="$*"
if [[ ${1:-} == --out ]]; then
  out=$2
  shift 2
fi
python=$(scripts/python_environment.sh e2e tests/requirements.txt)/bin/python
mkdir -p "$out"
"$python" -B benches/data_sets/compare.py "$program" "$@" | tee "$out/compare.txt"
python3 benches/write_manifest.py "$out" --suite data_sets --program "$program" \
  --command "benches/data_sets/run.sh $all"
