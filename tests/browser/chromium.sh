#!/usr/bin/env bash
# Prints the path of Chromium or Chrome. BLIP_CHROMIUM names another one. Installs Debian's package
# if none is present and the user may install packages.
set -euo pipefail

fail() {
  echo "browser tests: $1" >&2
  exit 1
}

if [[ -n ${BLIP_CHROMIUM:-} ]]; then
  command -v "$BLIP_CHROMIUM" || fail "BLIP_CHROMIUM names no program: $BLIP_CHROMIUM"
  exit
fi
find_browser() {
  command -v chromium || command -v google-chrome
}
find_browser && exit
root=()
[[ $(id -u) == 0 ]] || root=(sudo -n)
if command -v apt-get >/dev/null && "${root[@]}" true 2>/dev/null; then
  {
    "${root[@]}" apt-get update --quiet=2
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes \
      --no-install-recommends chromium fonts-dejavu-core
  } >&2 || fail "cannot install the package chromium"
fi
find_browser || fail "Chromium is missing: install the package chromium, or set BLIP_CHROMIUM"
