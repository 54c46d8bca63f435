#!/usr/bin/env bash
# Prints the folder of NVRTC, the CUDA compiler, which compiles kernels without a GPU. It is part of
# LibTorch for CUDA. Otherwise the first call downloads the same wheel from PyPI into the cache that
# all clones share.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -e .libtorch/lib/libnvrtc.so.13 ]]; then
  realpath .libtorch/lib
  exit 0
fi
requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
grep '^nvidia-cuda-nvrtc==' scripts/libtorch-cuda.txt >"$requirements"
venv=$(scripts/python_environment.sh nvrtc "$requirements")
found=("$venv"/lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so.13)
[[ -e ${found[0]} ]] || { echo "nvrtc: $venv has no libnvrtc.so.13" >&2; exit 1; }
dirname "${found[0]}"
