#!/usr/bin/env bash
# Compares two builds of blip-serve: run.sh OLD_PROGRAM [NEW_PROGRAM] [options of compare.py]
# Results go to benches/results/versions.
set -euo pipefail
cd "$(dirname "$0")/../.."

old=${1:?name the program of the old build} new=${2:-target/release/blip-serve}
out=benches/results/versions
mkdir -p "$out"
python3 -B benches/versions/compare.py "$old" "$new" "${@:3}" | tee "$out/compare.txt"
python3 benches/write_manifest.py "$out" --suite versions --program "$new" \
  --command "benches/versions/run.sh $("$old" --version)"
