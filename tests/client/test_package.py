"""The package: types, generated files, the wheel, and the examples of its README."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from servers import DEMO_IMAGE, ROOT

PROJECT = ROOT / "clients/python"
PACKAGE = PROJECT / "src/blip_serve_client"
README = (PROJECT / "README.md").read_text()


def run(*command, **options):
    """Runs a command and returns its output."""
    completed = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def test_types_pass_mypy_strict():
    # The environment of the tests outlives a run. The first run takes some seconds.
    cache = Path(sys.prefix) / "mypy_cache"
    configuration = ["--config-file", PROJECT / "pyproject.toml", "--cache-dir", cache]
    environment = {**os.environ, "MYPYPATH": str(PACKAGE.parent)}
    usage = Path(__file__).with_name("typed_usage.py")
    run(sys.executable, "-m", "mypy", *configuration, PACKAGE, usage, env=environment)
    assert (PACKAGE / "py.typed").exists()


def test_generated_files_are_current(tmp_path):
    run(sys.executable, PROJECT / "generate.py", "--output", tmp_path)
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 5
    for path in written:
        same = (tmp_path / path).read_bytes() == (PACKAGE / path).read_bytes()
        assert same, f"{path} differs: run clients/python/generate.py"


def test_package_works_beside_other_definitions_of_google_rpc(tmp_path):
    # Another package has files of the same names with other contents in the default pool.
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool
for name, package in (("google/rpc/status.proto", "google.rpc"), ("blip/v1/blip.proto", "blip.v1")):
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package)
    file.message_type.add(name="Status")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
import blip_serve_client
"""
    run(sys.executable, "-c", program)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT, folder / "project", ignore=shutil.ignore_patterns("dist", "__pycache__"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "project")
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def test_wheel_is_pure_and_complete(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith("/METADATA")]
        (licence,) = [archive.read(name).decode() for name in names if name.endswith("/LICENSE")]
    files = {
        f"blip_serve_client/{path.relative_to(PACKAGE)}" for path in PACKAGE.rglob("*") if path.is_file()
    }
    assert {name for name in files if "__pycache__" not in name} <= names
    required = re.findall(r"^Requires-Dist: (\w+).*?(; extra.*)?$", metadata, re.M)
    assert [name for name, extra in required if not extra] == ["grpcio", "protobuf"]
    assert "License-Expression: Apache-2.0" in metadata
    assert licence == (ROOT / "LICENSE").read_text()


def test_readme_examples_run_with_the_installed_wheel(wheel, demo, tmp_path):
    installed = tmp_path / "installed"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    run(sys.executable, "-m", "pip", "install", *options, "--target", installed, wheel)
    shutil.copy(DEMO_IMAGE, tmp_path / "demo.png")
    blocks = re.findall(r"```python\n(.*?)```\n+(?:```text\n(.*?)```)?", README, re.S)
    assert len(blocks) >= 3
    for code, output in blocks:
        program = code.replace("localhost:50051", demo.address)
        printed = run(
            sys.executable, "-c", program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}
        )
        assert printed == output, program


def test_getting_started_guide_has_a_program_that_works(demo):
    guide = (ROOT / "docs/guide/getting-started.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    printed = run(sys.executable, "-c", program.replace("127.0.0.1:50051", demo.address), cwd=ROOT)
    assert re.fullmatch(r"5 -0\.\d+\nyes\n", printed)


def test_example_prints_answers_and_errors(demo):
    question = "is there a square?"
    options = ["--target", demo.address, "--question", question, "--image", DEMO_IMAGE, "--image", "nowhere.png"]
    command = [sys.executable, ROOT / "examples/python/ask.py", *map(str, options)]
    completed = subprocess.run(command, capture_output=True, text=True)
    answer, error = completed.stdout.splitlines()
    assert answer == f"{DEMO_IMAGE}\t{question}\tyes"
    assert error.startswith(f"nowhere.png\t{question}\terror: cannot read nowhere.png")
    assert completed.returncode == 1
