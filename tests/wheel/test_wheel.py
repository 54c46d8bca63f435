"""The wheel: its files and metadata, and the installed program."""

import re
import signal
import subprocess
import tomllib
import zipfile

import pytest
from blip_serve_client import Client
from conftest import ROOT, run

IMAGE = ROOT / "models/demo/demo.png"
QUESTION = "how many things are in the image?"
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
TORCH = re.search(r"(?m)^torch==(\S+)", (ROOT / "scripts/libtorch-cpu.txt").read_text())[1]


def asked(program, address):
    """Returns what `ask` prints about the bundled image."""
    completed = run(program, "ask", "--server", f"http://{address}", "--image", IMAGE, "--question", QUESTION)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_wheel_contains_program_without_libtorch(wheel):
    assert re.fullmatch(rf"blip_serve-{re.escape(VERSION)}-py3-none-manylinux_2_\d+_x86_64\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith("/METADATA")]
        (licence,) = [archive.read(name).decode() for name in names if name.endswith("/LICENSE")]
    files = {name for name in names if ".dist-info/" not in name and not name.endswith("/")}
    assert files == {
        "blip_serve/__init__.py",
        "blip_serve/__main__.py",
        "blip_serve/bin/blip-serve",
    }
    assert licence == (ROOT / "LICENSE").read_text()
    # The release for which the program is built. LibTorch promises no stable C++ interface.
    assert re.findall(r"(?m)^Requires-Dist: (.*)$", metadata) == [f"torch=={TORCH}"]


def test_packed_program_is_executable(wheel):
    with zipfile.ZipFile(wheel) as archive:
        program = archive.getinfo("blip_serve/bin/blip-serve")
    assert program.external_attr >> 16 & 0o111 == 0o111


@pytest.mark.parametrize("torch", [TORCH, f"{TORCH}+cpu"])
def test_installed_program_serves_and_asks(environment, serve, torch):
    environment.add_torch(torch)
    assert run(environment.program, "--version").stdout.split()[:2] == ["blip-serve", VERSION]
    server, address = serve(environment.program)
    assert " -> 5 " in asked(environment.program, address)
    with Client(address) as client:
        assert client.ask(IMAGE, QUESTION).text == "5"
    # The program has replaced the process of Python, so that signals reach it.
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) == 0


def test_python_module_equals_installed_command(environment):
    environment.add_torch(TORCH)
    outputs = [
        run(*command, "--help") for command in ([environment.program], [environment.python, "-m", "blip_serve"])
    ]
    assert [output.returncode for output in outputs] == [0, 0]
    assert outputs[0].stdout == outputs[1].stdout


def test_torch_in_another_folder_is_used(environment, serve, tmp_path):
    # pip leaves torch of the system in its place when it installs the wheel for a user.
    environment.add_torch(TORCH, tmp_path / "system")
    _, address = serve(environment.program, PYTHONPATH=str(tmp_path / "system"))
    # The server decodes the image in a worker process, which finds LibTorch as well.
    with Client(address) as client:
        assert client.ask(IMAGE, QUESTION).text == "5"


def test_missing_torch_is_one_line_with_remedy(environment):
    completed = run(environment.program, "serve")
    assert (completed.returncode, completed.stdout) == (1, "")
    (line,) = completed.stderr.splitlines()
    assert line.startswith("blip-serve: torch is not installed in ") and line.endswith(f"Install torch=={TORCH}")


def test_other_torch_is_one_line_with_remedy(environment):
    environment.add_torch("2.10.0+cpu")
    completed = run(environment.program, "serve")
    assert (completed.returncode, completed.stdout) == (1, "")
    (line,) = completed.stderr.splitlines()
    assert "torch 2.10.0+cpu is installed" in line and line.endswith(f"Install torch=={TORCH}")


def test_torch_without_libraries_is_one_line_with_remedy(environment):
    environment.add_torch(TORCH)
    (environment.packages / "torch/lib").unlink()
    completed = run(environment.program, "serve")
    assert (completed.returncode, completed.stdout) == (1, "")
    (line,) = completed.stderr.splitlines()
    assert "has no libtorch_cpu.so" in line and f"torch=={TORCH}" in line


def test_cuda_without_its_library_names_the_package(environment):
    environment.add_torch(f"{TORCH}+cpu")
    completed = run(environment.program, "serve", "--device", "cuda")
    assert completed.returncode == 1
    (line,) = completed.stderr.splitlines()
    assert "has no libtorch_cuda.so" in line and "install the same torch from PyPI" in line
