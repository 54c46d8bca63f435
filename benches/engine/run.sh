#!/usr/bin/env bash
# Times the engine and the reference on the CPU of this machine, one after the other, in two rounds.
#
#   benches/engine/run.sh [--out FOLDER] [--preset NAME] [--seconds N]
#
#   --out      folder for the results                          (default: out/engine)
#   --preset   shapes of the model, see random_checkpoint.py   (default: vqa)
#   --seconds  measured time of each row of the tables         (default: 3)
#
# Build the programs first: make dist. The weights are random.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=out/engine preset=vqa seconds=3
while (($#)); do
  case $1 in
    --out) out=$2; shift 2 ;;
    --preset) preset=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    *) echo "run.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
python=$(scripts/python_environment.sh reference tests/reference/requirements.txt)/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" tests/reference/generate/random_checkpoint.py --preset "$preset" "$work/model"
for round in 1 2; do
  dist/engine_speed --model "$work/model" --device cpu --batch-images 1,4 --seconds "$seconds" \
    >"$out/engine_$round.json"
  "$python" benches/engine/reference_speed.py --model "$work/model" --device cpu --answer-tokens 3 \
    --largest-batch 8 --budget 4 >"$out/reference_$round.json"
done
python3 benches/write_manifest.py "$out" --suite engine --program dist/blip-serve \
  --command "benches/engine/run.sh --preset $preset --seconds $seconds"
