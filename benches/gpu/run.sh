#!/usr/bin/env bash
# Checks and times blip-serve on a machine with CUDA.
#
#   benches/gpu/run.sh [--bin FOLDER] [--out FOLDER] [--device cuda|cpu] [--small] [--seconds N]
#
#   --bin      folder of the programs blip-serve and engine_speed (default: dist, see `make dist`)
#   --out      folder for the results                             (default: out/gpu)
#   --device   cuda, or cpu to test the suite itself
#   --small    a small model and short runs, to test the suite itself
#   --seconds  time limit of the whole suite                      (default: 520)
#
# The machine needs python3 with torch 2.11 and transformers, but no Rust. The suite runs
# unattended. Each step has a time limit. A failed step does not stop the others. Steps without time
# left are skipped.
#
# Results: summary.txt, machine.txt, manifest.json, engine_*.json, reference.json, goals.txt and the
# log of each step.
set -uo pipefail
cd "$(dirname "$0")/../.."

arguments=$*
bin=dist out=out/gpu device=cuda small= all_seconds=520
while (($#)); do
  case $1 in
    --bin) bin=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --small) small=1; shift ;;
    --seconds) all_seconds=$2; shift 2 ;;
    *) echo "run.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
failed=0

# step NAME SECONDS COMMAND...: runs the command with a time limit and writes its output to
# NAME.log.
step() {
  local name=$1 limit=$2 begin=$SECONDS rc=0 left=$((all_seconds - SECONDS))
  shift 2
  if ((left < 10)); then
    echo "step $name: skipped, no time left" | tee -a "$out/summary.txt"
    failed=1
    return 1
  fi
  ((left < limit)) && limit=$left
  timeout "$limit" "$@" >"$out/$name.log" 2>&1 || rc=$?
  echo "step $name: exit $rc after $((SECONDS - begin)) s" | tee -a "$out/summary.txt"
  ((rc == 0)) || { failed=1; tail -n 5 "$out/$name.log" | sed 's/^/    /' | tee -a "$out/summary.txt"; }
  return $rc
}

# The programs link LibTorch, which the machine's PyTorch contains.
LD_LIBRARY_PATH=$(python3 -c '
import glob, os, torch
lib = os.path.join(os.path.dirname(torch.__file__), "lib")
site = os.path.dirname(os.path.dirname(torch.__file__))
print(":".join([lib] + sorted(glob.glob(os.path.join(site, "nvidia", "*", "lib")))))
')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

{
  date -u
  [[ $device == cuda ]] && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  python3 -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
  grep -m1 'model name' /proc/cpuinfo; nproc
} 2>&1 | tee "$out/machine.txt" >"$out/summary.txt"
python3 benches/write_manifest.py "$out" --suite engine --program "$bin/blip-serve" \
  --command "benches/gpu/run.sh $arguments" 2>&1 | tee -a "$out/summary.txt"

work=$(mktemp -d)
server=
trap '[[ -n $server ]] && kill "$server" 2>/dev/null; rm -rf "$work"' EXIT

# 1. The demo model's answers to easy-vqa through the server, compared with the reference.

# easy_vqa NAME DTYPE OPTION...: starts a server and asks it every question.
easy_vqa() {
  local name=$1 dtype=$2 near_tie=0 address=
  shift 2
  "$bin/blip-serve" serve --device "$device" --dtype "$dtype" "$@" --grpc-listen 127.0.0.1:0 \
    --answer-cache-bytes 0 --http-listen off --metrics-listen off >"$out/serve_$name.log" 2>&1 &
  server=$!
  until address=$(grep -oE -m1 'http://[0-9.]+:[0-9]+' "$out/serve_$name.log"); do
    kill -0 "$server" 2>/dev/null || { cat "$out/serve_$name.log"; return 1; }
    sleep 0.2
  done
  [[ $dtype == f16 ]] && near_tie=0.05
  step "easy_vqa_$name" 120 python3 tests/reference/ask_easy_vqa.py --server "${address#http://}" --near-tie $near_tie
  kill "$server" && wait "$server"
  server=
  # The server logs a warning if graphs or native kernels are not available.
  { cat "$out/easy_vqa_$name.log"; grep WARN "$out/serve_$name.log"; } >>"$out/summary.txt"
}
if python3 -c 'import easy_vqa, grpc, grpc_reflection' 2>/dev/null; then
  easy_vqa f32 f32
  easy_vqa f16 f16
  easy_vqa f16_graphs f16 --cuda-graphs
  [[ $device == cuda ]] && easy_vqa f16_kernels f16 --cuda-kernels native
else
  echo "step easy_vqa: skipped, easy_vqa or grpcio-reflection is not installed" | tee -a "$out/summary.txt"
fi

# 2. Random weights in the shape of a released model: correctness, then speed.
shape=vqa seconds=2 images=1,4,8,16,32,64,128,256
[[ -n $small ]] && shape=tiny seconds=0.2 images=1,4
step checkpoint 120 python3 tests/reference/generate/random_checkpoint.py --preset "$shape" "$work/model"
# engine NAME DTYPE IMAGES OPTION...
engine() {
  local name=$1 dtype=$2 images=$3
  shift 3
  step "engine_$name" 200 bash -c "exec '$bin/engine_speed' --model '$work/model' --device $device --dtype $dtype \
    --batch-images $images --seconds $seconds --cross-attention-cache-bytes 4294967296 $* >'$out/engine_$name.json'"
  sed -n '/questions\/s\|p50\|against\|loaded\|kernels\|WARN/p' "$out/engine_$name.log" >>"$out/summary.txt"
}
engine f16 f16 $images
engine f16_graphs f16 $images --cuda-graphs
# The native kernels exist for CUDA only. They run with fewer batch sizes to save time.
[[ $device == cuda ]] && engine f16_graphs_kernels f16 1,32,128,256 --cuda-graphs --cuda-kernels native

# 3. The reference on the same weights and device, at its fastest batch size.
dtype=f16
[[ $device == cpu ]] && dtype=f32
step reference 200 bash -c "exec python3 benches/engine/reference_speed.py --model '$work/model' --device $device \
  --dtype $dtype --answer-tokens 3 ${small:+--budget 0.2 --largest-batch 8} >'$out/reference.json'"
cat "$out/reference.json" >>"$out/summary.txt" 2>/dev/null

# 4. The native kernels without graphs, then f32. These steps come last, because no other needs
# them.
[[ $device == cuda ]] && engine f16_kernels f16 1,32,128,256 --cuda-kernels native
engine f32 f32 "${images%%,*},${images##*,}"

python3 benches/engine/goals.py "$out" 2>&1 | tee "$out/goals.txt" >>"$out/summary.txt"

cat "$out/summary.txt"
exit $failed
