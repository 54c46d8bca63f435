"""The service of systemd, checked by systemd's own programs without a running systemd."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest
from conftest import READY, ROOT, program, tool

FOLDER = ROOT / "deploy/systemd"
UNIT = FOLDER / "blip-serve.service"
TEXT = UNIT.read_text()

with_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (package systemd)"
)


@pytest.fixture(params=["cpu", "gpu"])
def unit(request, tmp_path):
    """The unit with the program of this test, alone or with the drop-in for GPUs."""
    file = tmp_path / "blip-serve.service"
    text = TEXT.replace("/opt/blip-serve/bin/blip-serve", program())
    assert text != TEXT
    file.write_text(text + ((FOLDER / "gpu.conf").read_text() if request.param == "gpu" else ""))
    return file


@with_systemd
def test_unit_is_valid(unit):
    result = tool("systemd-analyze", "verify", "--man=no", unit)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@with_systemd
def test_unit_exposes_little(unit):
    # 10 is a service without any restriction. systemd calls values below 2 "OK".
    result = tool("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", unit)
    assert result.returncode == 0, result.stdout


@with_systemd
def test_user_of_unit_is_the_created_one():
    result = tool("systemd-sysusers", "--dry-run", FOLDER / "blip-serve.sysusers.conf")
    assert result.returncode == 0, result.stderr
    user = re.search(r"^User=(\S+)$", TEXT, re.M)[1]
    assert f"Creating user '{user}'" in result.stdout + result.stderr


def calls_of(group):
    """Returns the system calls of a group such as @system-service."""
    result = tool("systemd-analyze", "syscall-filter", group)
    assert result.returncode == 0, result.stderr
    names = {line.strip() for line in result.stdout.splitlines()[1:]}
    plain = {name for name in names if name and name[0] not in "@#"}
    return plain.union(*(calls_of(name) for name in names if name.startswith("@")))


def allowed_calls():
    """Returns the system calls that the unit allows, by the rules of SystemCallFilter."""
    allowed = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", TEXT, re.M):
        names = line.removeprefix("~").split()
        calls = set().union(*(calls_of(name) if name[0] == "@" else {name} for name in names))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


@with_systemd
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing")
def test_unit_allows_every_system_call_of_the_server(tmp_path):
    trace = tmp_path / "trace"
    listeners = [f"--{name}-listen=127.0.0.1:0" for name in ("grpc", "http", "metrics")]
    command = ["strace", "-f", "-qq", "-o", trace, program(), "serve", "--device", "cpu", *listeners]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
        address = READY.search(tracer.stdout.readline())[1]
        image = ROOT / "models/demo/demo.png"
        asked = tool(program(), "ask", "--server", address, image, "--question", "is there a square?")
        assert asked.returncode == 0, asked.stderr
        with trace.open() as lines:
            server = int(next(lines).split()[0])
        os.kill(server, signal.SIGTERM)
        assert tracer.wait(timeout=120) == 0
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.M))
    # The workers that decode images confine themselves.
    assert {"execve", "seccomp", "landlock_restrict_self"} <= used
    assert used <= allowed_calls(), used - allowed_calls()


def test_stop_waits_for_the_end_of_the_drain():
    settings = json.loads(tool(program(), "config", "--json").stdout)["drain"]
    drain = settings["grace_s"]["value"] + settings["limit_s"]["value"]
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", TEXT, re.M)[1]) > drain


def test_invalid_setting_is_not_retried():
    result = tool(program(), "serve", "--no-such-setting")
    assert f"RestartPreventExitStatus={result.returncode}\n" in TEXT
