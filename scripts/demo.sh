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
until address=$(grep -oE -m1 'http://[0-9.]+:[0-9]+' "$log"); do
  kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.1
done
cat "$log"
"$binary" ask --server "$address" --image models/demo/demo.png \
  --question "how many things are in the image?" \
  --question "what shape is to the left of the rectangle?" \
  --question "is the red triangle to the right of the green shape?"
