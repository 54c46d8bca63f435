#!/usr/bin/env bash
# Prints the folder with the tools of the fleet tests. The first call fetches them into the cache
# that all clones share. It needs no root. The folder contains:
#
#   venv/               Python with the packages of the tests
#   stubs/              gRPC stubs of blip_client.py
#   node/node_modules   packages of the Node example
#   bin/, lib/          HAProxy and nginx
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
fail() { echo "fleet tools: $*" >&2; exit 1; }

command -v npm >/dev/null || fail "npm is missing: install Node 20 or later"
cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
inputs=(requirements.txt tools.sh "$root"/examples/node/package{,-lock}.json "$root"/proto/blip/v1/*.proto)
key=$( (cat "${inputs[@]}"; node --version; python3 -c 'import sys; print(sys.version, sys.executable)') | sha256sum | cut -c1-16)
target=$cache/fleet-$key

mkdir -p "$cache"
exec 9>"$target.lock"
flock 9
if [[ ! -e $target/.complete ]]; then
  echo "fleet tools: fetching Python and Node packages, HAProxy and nginx into $target" >&2
  rm -rf "$target"
  mkdir -p "$target"/{bin,lib,stubs,node,fetched/lists/partial,fetched/apt/archives/partial}
  python3 -m venv "$target/venv"
  "$target/venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt || fail "pip install failed"
  "$target/venv/bin/python" -m grpc_tools.protoc -I "$root/proto" --python_out="$target/stubs" --grpc_python_out="$target/stubs" \
    blip/v1/blip.proto || fail "protoc failed"
  cp "$root"/examples/node/package{,-lock}.json "$target/node/"
  (cd "$target/node" && npm ci --silent --ignore-scripts) >&2 || fail "npm ci failed"
  # Debian's packages are unpacked, not installed. The last three are libraries of HAProxy. If the
  # machine's package lists are old or missing, apt-get updates separate ones, which needs no root.
  packages=(haproxy nginx liblua5.3-0 libopentracing-c-wrapper0 libopentracing1)
  lists=(-o Dir::State::Lists="$target/fetched/lists" -o Dir::Cache="$target/fetched/apt" -o APT::Sandbox::User="$(id -un)" -qq)
  (cd "$target/fetched" \
    && { apt-get download -qq "${packages[@]}" || { apt-get "${lists[@]}" update && apt-get "${lists[@]}" download "${packages[@]}"; }; } \
    && for package in *.deb; do dpkg --extract "$package" files; done) >&2 || fail "apt-get download ${packages[*]} failed"
  mv "$target"/fetched/files/usr/sbin/{haproxy,nginx} "$target/bin/"
  mv "$target"/fetched/files/usr/lib/x86_64-linux-gnu/lib*.so* "$target/lib/"
  rm -rf "$target/fetched"
  LD_LIBRARY_PATH=$target/lib "$target/bin/haproxy" -v >/dev/null || fail "haproxy does not run"
  "$target/bin/nginx" -v 2>/dev/null || fail "nginx does not run"
  touch "$target/.complete"
fi
echo "$target"
