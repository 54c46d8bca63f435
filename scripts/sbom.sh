#!/usr/bin/env bash
# Writes the bill of materials of the program as CycloneDX JSON: every crate that is built into the
# program or builds it, with version, licence and hash.
#
#   scripts/sbom.sh sbom.cdx.json
#
# It needs cargo-cyclonedx: cargo install --locked --version 0.5.9 cargo-cyclonedx. The bill does
# not list LibTorch, which scripts/libtorch-*.txt pin by hash, and C libraries such as
# libjpeg-turbo, which are part of the listed crates.
set -euo pipefail
output=$(realpath "${1:?missing output file}")
cd "$(dirname "$0")/.."
# cargo-cyclonedx writes a file next to the manifest of every member.
trap 'find . -name blip-serve-sbom.json -not -path "./target/*" -delete' EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --override-filename blip-serve-sbom
mv blip-serve-sbom.json "$output"
