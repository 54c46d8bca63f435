#!/usr/bin/env bash
# Starts the server with its embedded model, asks three questions about the bundled image over gRPC
# and HTTP, and stops the server.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${BLIP_SERVE_BIN:-target/demo/blip-serve}
log=$(mktemp)
"$binary" serve --grpc-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --metrics-listen off >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -f "$log"' EXIT

# The server prints one line with its addresses when it is ready.
until grep -q ' ready: ' "$log"; do
  kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.1
done
cat "$log"
grpc=$(sed -nE 's/.* grpc (http[^ ,]+).*/\1/p' "$log")
http=$(sed -nE 's/.* http (http[^ ,]+).*/\1/p' "$log")
questions=("how many things are in the image?" "what shape is to the left of the rectangle?"
  "is the red triangle to the right of the green shape?")

echo "\$ blip-serve ask --image models/demo/demo.png ..."
"$binary" ask --server "$grpc" --image models/demo/demo.png "${questions[@]/#/--question=}"

command -v curl >/dev/null || exit 0
echo "\$ curl $http/v1/ask ..."
texts=$(printf '"%s", ' "${questions[@]}")
printf '{"inputs": {"texts": [[%s]], "images": [{"base64": "%s"}]}}' "${texts%, }" "$(base64 -w0 models/demo/demo.png)" |
  curl --silent --show-error --fail-with-body --json @- "$http/v1/ask"
echo
