#!/usr/bin/env bash
# Writes the bill of materials of the program, in CycloneDX's JSON: every crate that is built in or builds it, with version, licence and hash.
#
#   scripts/sbom.sh sbom.cdx.json
#
# By cargo-cyclonedx: cargo install --locked --version 0.5.9 cargo-cyclonedx. LibTorch and the C libraries in crates (libjpeg-turbo) are no
# crates: the first is pinned by hash in scripts/libtorch-*.txt, the others come with the crates that are listed.
set -euo pipefail
output=$(realpath "${1:?where to}")
cd "$(dirname "$0")/.."
# It writes a file beside the manifest of every member.
trap 'find . -name blip-serve-sbom.json -not -path "./target/*" -delete' EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --override-filename blip-serve-sbom
mv blip-serve-sbom.json "$output"
