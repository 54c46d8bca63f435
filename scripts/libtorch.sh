#!/usr/bin/env bash
# Links `.libtorch`, where cargo finds LibTorch, to a folder that all clones share.
#
#   scripts/libtorch.sh                  the CPU libraries (440 MB on disk)
#   DEVICE=cuda scripts/libtorch.sh      the CPU and CUDA libraries (5 GB on disk)
#
# If LIBTORCH is set, the link points to it. Otherwise pip downloads the wheels in
# scripts/libtorch-<device>.txt from PyPI and checks their SHA-256. They are unpacked once into
# ${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/blip-serve}/libtorch-2.11.0-<device>.
set -euo pipefail
cd "$(dirname "$0")/.."

device=${DEVICE:-cpu}
lock_file=scripts/libtorch-$device.txt
fail() { echo "libtorch: $*" >&2; exit 1; }

if [[ -n ${LIBTORCH:-} ]]; then
  [[ -e $LIBTORCH/lib/libtorch_cpu.so ]] || fail "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so"
  ln -sfn "$(realpath "$LIBTORCH")" .libtorch
  echo "libtorch: using LIBTORCH=$LIBTORCH"
  exit 0
fi
[[ -f $lock_file ]] || fail "DEVICE=$device: expected cpu or cuda"
[[ $(uname -sm) == "Linux x86_64" ]] || fail "no pinned wheels for $(uname -sm); set LIBTORCH to a LibTorch 2.11"

cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$lock_file")
target=$cache/libtorch-$version-$device

if [[ ! -e $target/.complete || $(cat "$target/.complete") != "$(sha256sum <"$lock_file")" ]]; then
  mkdir -p "$cache"
  exec 9>"$cache/libtorch-$device.lock"
  flock 9 # concurrent builds of two clones unpack once
  if [[ ! -e $target/.complete || $(cat "$target/.complete") != "$(sha256sum <"$lock_file")" ]]; then
    partial=$(mktemp -d "$cache/partial.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    echo "libtorch: fetching torch $version for $device"
    platforms=(manylinux_2_28 manylinux_2_27 manylinux_2_25 manylinux_2_18 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux_2_5)
    python3 -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
      --python-version 3.11 $(printf -- '--platform %s_x86_64 ' "${platforms[@]}") \
      --dest "$partial/wheels" --requirement "$lock_file"
    python3 scripts/unpack_libtorch.py "$device" "$partial/root" "$partial"/wheels/*.whl
    sha256sum <"$lock_file" >"$partial/root/.complete"
    rm -rf "$target"
    mv "$partial/root" "$target"
  fi
fi
ln -sfn "$target" .libtorch
echo "libtorch: $target"
