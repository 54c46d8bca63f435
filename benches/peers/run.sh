#!/usr/bin/env bash
# Measures the release build beside its peers; results go to benches/peers/results/<date>. Arguments go to peers.py.
# Python packages come from requirements.txt into a virtual environment in the cache that all clones share (7 GB on disk).
set -euo pipefail
cd "$(dirname "$0")"

venv=$(../../scripts/python_environment.sh peers requirements.txt)
# Triton finds Python by the path.
PATH=$venv/bin:$PATH exec "$venv/bin/python" -B peers.py --bin ../../target/release/blip-serve \
  --output "results/$(date +%F)" "$@"
