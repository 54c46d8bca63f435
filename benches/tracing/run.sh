#!/usr/bin/env bash
# Measures what tracing costs the release build, and writes results/<date>. Arguments go to cost.py.
set -euo pipefail
cd "$(dirname "$0")"

venv=$(../../scripts/python_environment.sh e2e ../../tests/requirements.txt)
mkdir -p "results/$(date +%F)"
"$venv/bin/python" -B cost.py --bin ../../target/release/blip-serve "$@" | tee "results/$(date +%F)/cost.txt"
