#!/usr/bin/env bash
# Measures what tracing costs the release build. Arguments go to cost.py.
# Results go to benches/results/tracing.
set -euo pipefail
cd "$(dirname "$0")"

venv=$(../../scripts/python_environment.sh e2e ../../tests/requirements.txt)
program=../../target/release/blip-serve out=../results/tracing
mkdir -p "$out"
"$venv/bin/python" -B cost.py --bin "$program" "$@" | tee "$out/cost.txt"
python3 ../write_manifest.py "$out" --suite tracing --program "$program" --command "benches/tracing/run.sh $*"
