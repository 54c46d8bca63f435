#!/usr/bin/env bash
# Starts the engine on its embedded model, asks three questions about a bundled picture over gRPC, stops it.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${BLIP_SERVE_BIN:-target/release/blip-serve}
log=$(mktemp)
"$binary" serve --grpc-listen 127.0.0.1:0 >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -f "$log"' EXIT

# The line that the server prints when it is ready holds its address.
while ! address=$(grep -oE -m1 'http://[0-9.]+:[0-9]+' "$log"); do
  kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
  read -rt 0.1 <> <(:) || true
done
cat "$log"
echo
mapfile -t questions < models/demo/questions.txt
arguments=()
for question in "${questions[@]}"; do arguments+=(--question "$question"); done
"$binary" ask --server "$address" --image models/demo/demo.png "${arguments[@]}"
