#!/usr/bin/env bash
# Checks and times blip-serve on a machine with CUDA.
#
#   benches/gpu/run.sh [--bin FILE] [--out FOLDER] [--device cuda|cpu] [--small] [--seconds N]
#                      [--only STEP,STEP]
#
#   --bin      archive of `make dist-gpu`, or a folder of its files  (default: dist/gpu.tar.xz)
#   --out      folder for the results, which replace earlier ones    (default: out/gpu)
#   --device   cuda, or cpu to test the suite itself
#   --small    a small model and short runs, to test the suite itself
#   --seconds  time limit of the whole suite                         (default: 300)
#   --only     some of the steps server, engine, plain, easy_vqa, variants, reference
#
# The machine needs python3 with torch 2.11, transformers, numpy and Pillow, but no Rust. The suite
# runs unattended. Each step has a time limit. The suite stops at once if the programs do not start
# or if the answers of the first check are wrong. Any other step that fails stops no other step.
# Steps without time left are skipped.
#
# Results: summary.txt, machine.txt, manifest.json, engine_*.json, server_*.json, reference.json,
# goals.txt and the log of each step. All of them are packed into FOLDER.tar.gz.
set -uo pipefail
cd "$(dirname "$0")/../.."

arguments=$*
bin=dist/gpu.tar.xz out=out/gpu device=cuda small= all_seconds=300 only=server,engine,plain,easy_vqa,variants,reference
while (($#)); do
  case $1 in
    --bin) bin=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --small) small=1; shift ;;
    --seconds) all_seconds=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    *) echo "run.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
out=${out%/}
for name in ${only//,/ }; do
  [[ $name =~ ^(server|engine|plain|easy_vqa|variants|reference)$ ]] || { echo "run.sh: no step $name" >&2; exit 2; }
done
[[ -e $bin ]] || { echo "run.sh: no $bin, see \`make dist-gpu\`" >&2; exit 2; }
# Results of an earlier run would pass for those of this one. Other folders are left alone.
if [[ -e $out/summary.txt ]]; then
  rm -rf "$out"
elif [[ -n $(ls -A "$out" 2>/dev/null) ]]; then
  echo "run.sh: $out has files of something else" >&2
  exit 2
fi
mkdir -p "$out"
failed=0 server= work=$(mktemp -d)

finish() {
  stop_server
  rm -rf "$work"
  cat "$out/summary.txt"
  tar -czf "$out.tar.gz" -C "$(dirname "$out")" "$(basename "$out")"
}
trap finish EXIT

log() { echo "$*" >>"$out/summary.txt"; }

# step NAME SECONDS COMMAND...: runs the command with a time limit and writes its output to
# NAME.log.
step() {
  local name=$1 limit=$2 begin=$SECONDS rc=0 left=$((all_seconds - SECONDS))
  shift 2
  if ((left < 5)); then
    log "step $name: skipped, no time left"
    failed=1
    return 1
  fi
  ((left < limit)) && limit=$left
  timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1 || rc=$?
  log "step $name: exit $rc after $((SECONDS - begin)) s"
  ((rc == 0)) || { failed=1; tail -n 5 "$out/$name.log" | sed 's/^/    /' >>"$out/summary.txt"; }
  return $rc
}

is_selected() { [[ ,$only, == *,$1,* ]]; }

# Ends the server, if one runs.
stop_server() {
  [[ -n $server ]] || return 0
  kill "$server" 2>/dev/null
  for _ in {1..50}; do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$server" 2>/dev/null
  wait "$server" 2>/dev/null
  server=
}

stop() {
  log "stopped: $1"
  exit 1
}

# 1. Versions and device. Nothing else works without them.

{
  date -u
  [[ $device == cuda ]] && timeout -k 5 20 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  grep -m1 'model name' /proc/cpuinfo
  nproc
} >"$out/machine.txt" 2>&1
# The programs link LibTorch, which the machine's PyTorch contains. The last line is its folders.
step torch 90 python3 -c '
import glob, os, sys, torch, transformers
print("torch", torch.__version__, "transformers", transformers.__version__)
if not torch.__version__.startswith("2.11.0"):
    sys.exit(f"torch {torch.__version__}, expected 2.11.0")
if sys.argv[1] == "cuda":
    print(torch.cuda.get_device_name(), torch.ones(8, device="cuda").sum().item())
site = os.path.dirname(os.path.dirname(torch.__file__))
folders = [os.path.join(site, "torch", "lib"), *sorted(glob.glob(os.path.join(site, "nvidia", "*", "lib")))]
print(":".join(folders))
' "$device" || stop "PyTorch or CUDA does not work"
head -n -1 "$out/torch.log" >>"$out/machine.txt"
cat "$out/machine.txt" >>"$out/summary.txt"
LD_LIBRARY_PATH=$(tail -n 1 "$out/torch.log")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
if [[ -f $bin ]]; then
  # Python reads the archive also where there is no xz.
  step unpack 60 python3 -m tarfile -e "$bin" "$work/bin" || stop "$bin is not an archive"
  bin=$work/bin
fi
step version 20 "$bin/blip-serve" --version || stop "blip-serve does not start"
step manifest 20 python3 benches/write_manifest.py "$out" --suite engine --program "$bin/blip-serve" \
  --command "benches/gpu/run.sh $arguments"

# 2. Answers of a model in the shape of a released one, in f16: alone and batched, with questions of
# unequal lengths, with graphs and native kernels, with graphs only, and with neither.

shape=vqa seconds=1 load_seconds=10 check_images=22 sizes=1,8,64,128 dtype=f16 clients=64
reference_options="--budget 1 --smallest-batch 256"
[[ -n $small ]] && shape=tiny seconds=0.2 load_seconds=2 check_images=4 sizes=1,4 clients=8 \
  reference_options="--budget 0.2 --largest-batch 8"
[[ $device == cpu ]] && dtype=f32
step checkpoint 60 python3 tests/reference/generate/random_checkpoint.py --preset "$shape" "$work/model" \
  || stop "no checkpoint"
# engine NAME LIMIT IMAGES OPTION...: runs engine_speed for $seconds a measurement.
engine() {
  local name=$1 limit=$2 images=$3
  shift 3
  step "engine_$name" "$limit" "$bin/engine_speed" --model "$work/model" --device "$device" --dtype "$dtype" \
    --batch-images "$images" --question-tokens 5-20 --seconds "$seconds" --check-images "$check_images" \
    --cross-attention-cache-bytes 4294967296 --out "$out/engine_$name.json" "$@"
  local rc=$?
  grep -E 'questions/s|p50|against|loaded|kernels|WARN' "$out/engine_$name.log" >>"$out/summary.txt"
  return $rc
}
seconds=0.1 engine smoke 40 1 || stop "the engine does not run"
seconds=0.1 engine smoke_graphs 40 1 --cuda-kernels libtorch || stop "the engine does not run"
step answers 10 python3 benches/gpu/check_engine.py "$out/engine_smoke.json" "$out/engine_smoke_graphs.json" \
  || stop "answers are wrong"
cat "$out/answers.log" >>"$out/summary.txt"

# 3. The server, with clients that send JPEG files of unequal sizes.

# start_server NAME MODEL OPTION...
start_server() {
  local name=$1 model=$2 deadline=$((SECONDS + 60))
  shift 2
  ((deadline > all_seconds)) && deadline=$all_seconds
  "$bin/blip-serve" serve --model "$model" --device "$device" --dtype "$dtype" "$@" --grpc-listen 127.0.0.1:0 \
    --answer-cache-bytes 0 --http-listen off --metrics-listen off >"$out/serve_$name.log" 2>&1 &
  server=$!
  until address=$(grep -oE -m1 'http://[0-9.]+:[0-9]+' "$out/serve_$name.log"); do
    if ! kill -0 "$server" 2>/dev/null || ((SECONDS > deadline)); then
      log "server $name: not started"
      tail -n 5 "$out/serve_$name.log" | sed 's/^/    /' >>"$out/summary.txt"
      failed=1
      stop_server
      return 1
    fi
    sleep 0.2
  done
}
# load NAME OPTION...: a load test.
load() {
  local name=$1
  shift
  step "server_$name" 40 "$bin/blip-serve" bench --server "$address" --clients "$clients" \
    --images "$bin/gpu_data/jpegs" --seconds "$load_seconds" --warm-up-s 3 --name "$name" \
    --output "$out/server_$name.json" "$@"
  cat "$out/server_$name.log" >>"$out/summary.txt"
}
if is_selected server && start_server load "$work/model"; then
  load new_images
  load cached_images --questions-per-image 6 --reuse 1 --pool 64
  stop_server
fi

# 4. The engine without a server, with its defaults.

is_selected engine && engine default 60 "$sizes" --no-checks

# 5. The demo model's answers to easy-vqa, compared with the reference.

near_tie=0
[[ $dtype == f16 ]] && near_tie=0.05
# ask_easy_vqa NAME MOST OPTION...: asks a server with these options. MOST answers may differ.
ask_easy_vqa() {
  local name=$1 most=$2 questions=$bin/gpu_data/easy_vqa/questions.jsonl
  shift 2
  start_server "$name" demo "$@" || return
  step "$name" 60 "$bin/blip-serve" ask --server "$address" --input "$questions" --output "$out/$name.jsonl"
  step "${name}_answers" 20 python3 benches/gpu/check_answers.py "$questions" "$out/$name.jsonl" \
    --near-tie "$near_tie" --most "$most"
  cat "$out/${name}_answers.log" >>"$out/summary.txt"
  stop_server
}
is_selected easy_vqa && ask_easy_vqa easy_vqa 0

# 6. The reference on the same weights and device, at its fastest batch size.

is_selected reference && step reference 90 python3 benches/engine/reference_speed.py --model "$work/model" \
  --device "$device" --dtype "$dtype" --answer-tokens 3 --out "$out/reference.json" $reference_options
cat "$out/reference.json" >>"$out/summary.txt" 2>/dev/null

# 7. What the parts of the speed are: graphs, native kernels, GELU in the products, two engines,
# images in FP8.

ends="${sizes%%,*},${sizes##*,}"
is_selected plain && engine plain 30 "$ends" --no-checks --cuda-graphs=false --cuda-kernels libtorch
if is_selected variants && [[ $device == cuda ]]; then
  engine no_native_kernels 25 "$ends" --no-checks --cuda-kernels libtorch
  engine tanh_gelu 40 "${sizes##*,}" --cuda-gelu tanh
  # Two engines on the device overlap their batches.
  if start_server two_engines "$work/model" --engines 2; then
    load new_images_two_engines
    load cached_images_two_engines --questions-per-image 6 --reuse 1 --pool 64
    stop_server
  fi
  # Older GPUs have no FP8. Some answers may differ in it: 0.5 %.
  if nvidia-smi --query-gpu=compute_cap --format=csv,noheader | awk '{ exit !($1 >= 8.9) }'; then
    engine fp8 40 "$ends" --no-checks --vision-dtype fp8
    ask_easy_vqa easy_vqa_fp8 48 --vision-dtype fp8
  fi
fi

timeout -k 5 10 python3 benches/engine/goals.py "$out" >"$out/goals.txt" 2>&1
cat "$out/goals.txt" >>"$out/summary.txt"
exit $failed
