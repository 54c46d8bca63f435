#!/usr/bin/env bash
# Measures blip-serve next to other CPU engines: run.sh [--out FOLDER] [options of bench.py]
# Results go to benches/results/cpu-peers and docs/benchmarks.md, or only to the folder of --out.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=benches/results/cpu-peers document=docs/benchmarks.md
if [[ ${1:-} == --out ]]; then
  out=$2 document=
  shift 2
fi
"${CARGO:-cargo}" build --release --locked -p blip --example timed_batches
python3 -B benches/cpu/bench.py --output "$out" "$@"
case " $* " in
  *" --prepare-only "* | *" --list "*) ;; # They measure nothing.
  *) python3 -B benches/cpu/render.py "$out" $document ;;
esac
