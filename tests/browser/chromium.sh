#!/usr/bin/env bash
# Prints the path of Chromium or Chrome. BLIP_CHROMIUM names another one. Installs Debian's package
# if none is present and the user may install packages.
set -euo pipefail

find_browser() {
  command -v "${BLIP_CHROMIUM:-chromium}" || command -v chromium-browser || command -v google-chrome
}

if ! find_browser; then
  root=()
  [[ $(id -u) == 0 ]] || root=(sudo -n)
  if command -v apt-get >/dev/null && "${root[@]}" true 2>/dev/null; then
    {
      "${root[@]}" apt-get update --quiet=2
      DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install --quiet=2 --yes --no-install-recommends \
        chromium fonts-dejavu-core
    } >&2
  fi
  find_browser || {
    echo "browser tests: Chromium is missing: install the package chromium, or set BLIP_CHROMIUM" >&2
    exit 1
  }
fi
