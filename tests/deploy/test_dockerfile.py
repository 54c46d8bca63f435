"""Checks of the Dockerfile that need no container engine."""

import json
import re
import subprocess
import tomllib

import pytest
from conftest import CHART, ROOT, program, rendered, tool

DOCKERFILE = ROOT / "deploy/Dockerfile"
TEXT = DOCKERFILE.read_text()
FINAL = TEXT[TEXT.rindex("\nFROM ") :]


def test_hadolint_accepts_dockerfile():
    result = tool("hadolint", "--failure-threshold", "style", DOCKERFILE)
    assert (result.returncode, result.stdout) == (0, "")


def test_image_user_equals_chart_user_and_needs_no_shell():
    user = rendered("minimal").pod["securityContext"]["runAsUser"]
    assert re.search(r"^USER (\d+):\d+$", FINAL, re.MULTILINE).group(1) == str(user)
    assert not re.search(r"^(RUN|SHELL) ", FINAL, re.MULTILINE)
    (entry,) = json.loads(re.search(r"^ENTRYPOINT (.*)$", FINAL, re.MULTILINE).group(1))
    assert f"/opt/blip-serve {entry}" in FINAL


def test_image_versions_equal_workspace():
    toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert f"FROM rust:{toolchain.removesuffix('.0')}-" in TEXT
    version = subprocess.run(
        [program(), "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert f'image.version="{version}"' in FINAL
    assert f"appVersion: {version}\n" in (CHART / "Chart.yaml").read_text()


@pytest.mark.parametrize("name", re.findall(r"^COPY (?!--from)(\S+) ", TEXT, re.MULTILINE))
def test_copied_files_exist_and_are_not_ignored(name):
    assert (ROOT / name).exists()
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert name == "." or name in allowed


def test_build_context_contains_workspace_members():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    assert {member.split("/")[0] for member in workspace["members"]} <= allowed | {"."}
    # Sources include files by relative paths. Their folders must be in the build context.
    for source in (ROOT / "crates").rglob("src/**/*.rs"):
        for path in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
            top = (source.parent / path).resolve().relative_to(ROOT).parts[0]
            assert top in allowed, f"{source} includes {path}"
