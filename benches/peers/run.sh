#!/usr/bin/env bash
# Measures the release build next to other servers of the same model. Arguments go to peers.py.
# Results go to benches/results/peers. The Python packages of requirements.txt need 7 GB of disk.
set -euo pipefail
cd "$(dirname "$0")"

venv=$(../../scripts/python_environment.sh peers requirements.txt)
program=../../target/release/blip-serve out=../results/peers
# Triton finds Python by the path.
PATH=$venv/bin:$PATH "$venv/bin/python" -B peers.py --bin "$program" --output "$out" "$@"
python3 ../write_manifest.py "$out" --suite peers --program "$program" --command "benches/peers/run.sh $*"
