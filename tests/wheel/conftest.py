"""Fixtures: the wheel, and fresh environments that contain it."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBTORCH = ROOT / ".libtorch/lib"
READY = re.compile(r"ready: grpc http://([^ ,]+)")


def run(*command, **options):
    """Runs a command. Returns its result, whatever the exit code."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=300, **options
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of the program that BLIP_SERVE_BIN names."""
    folder = tmp_path_factory.mktemp("dist")
    built = run(ROOT / "packaging/wheel/build.sh", os.environ["BLIP_SERVE_BIN"], folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.iterdir()
    return wheel


class Environment:
    """A virtual environment with the wheel and without its dependency."""

    def __init__(self, folder, wheel):
        venv.create(folder)
        self.python = folder / "bin/python"
        self.program = folder / "bin/blip-serve"
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check"]
        installed = run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
        assert installed.returncode == 0, installed.stderr
        (self.packages,) = folder.glob("lib/python*/site-packages")

    def add_torch(self, version, packages=None):
        """Lays out what pip installs of torch, as far as the program needs it.

        The libraries are those of the wheel from PyPI, in the cache of scripts/libtorch.sh.
        """
        packages = packages or self.packages
        (packages / "torch").mkdir(parents=True)
        (packages / "torch/__init__.py").write_text("raise ImportError('the program needs no import')\n")
        (packages / "torch/lib").symlink_to(LIBTORCH.resolve())
        record = packages / f"torch-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.4\nName: torch\nVersion: {version}\n")


@pytest.fixture
def environment(tmp_path, wheel):
    """An environment without torch."""
    return Environment(tmp_path / "environment", wheel)


@pytest.fixture
def serve():
    """A function that starts a server and returns its process and its address for gRPC."""
    processes = []

    def start(program, **variables):
        listeners = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--metrics-listen", "off"]
        process = subprocess.Popen(
            [program, "serve", "--device", "cpu", "--engine-threads", "1", *listeners],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        processes.append(process)
        line = process.stdout.readline()
        found = READY.search(line)
        assert found, f"{program} printed {line!r}"
        return process, found[1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
