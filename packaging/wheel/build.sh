#!/usr/bin/env bash
# Packs a built program as a wheel for PyPI. It compiles nothing.
#
#   packaging/wheel/build.sh PROGRAM FOLDER
#
# FOLDER gets blip_serve-VERSION-py3-none-manylinux_*_x86_64.whl. The wheel contains the program
# without LibTorch, which the package torch brings. Its tag names the oldest glibc that the program
# runs on: that of the machine that built it, or an older one.
set -euo pipefail
program=$(realpath "${1:?missing program}")
mkdir -p "${2:?missing output folder}"
output=$(realpath "$2")
cd "$(dirname "$0")/../.."

venv=$(scripts/python_environment.sh wheel packaging/wheel/requirements.txt)
# auditwheel finds patchelf by PATH.
export PATH=$venv/bin:$PATH
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT

cp -r packaging/wheel "$staging/project"
cp Cargo.toml LICENSE "$staging/project/"
find "$staging/project" -name __pycache__ -prune -exec rm -rf {} +
packed=$staging/project/src/blip_serve/bin/blip-serve
mkdir "$(dirname "$packed")"
strip -o "$packed" "$program"
# The way from blip_serve/bin to torch/lib, which pip installs side by side.
patchelf --set-rpath '$ORIGIN/../../torch/lib' "$packed"
(cd "$staging/project" && hatchling build --target wheel --directory "$staging/unrepaired")
# These libraries are part of torch.
auditwheel repair --wheel-dir "$staging/repaired" --exclude 'libtorch*.so' --exclude 'libc10*.so' \
  --exclude 'libgomp.so.1' "$staging"/unrepaired/*.whl
mv "$staging"/repaired/*.whl "$output/"
