"""The files of the image, assembled by its Dockerfile, and the program running in them."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import READY, ROOT, program, tool

TOOLS = Path(sys.executable).parents[1]
TRIPLE = "x86_64-unknown-linux-gnu"
TARGET = TOOLS.parent
IMAGE = ROOT / "models/demo/demo.png"


@pytest.fixture(scope="module")
def sbom(tmp_path_factory):
    """The bill of materials."""
    file = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    completed = tool(ROOT / "scripts/sbom.sh", file)
    assert completed.returncode == 0, completed.stderr
    return file


@pytest.fixture(scope="module")
def image(tmp_path_factory, sbom):
    """The folder of the files, and how the Dockerfile runs the program."""
    folder = tmp_path_factory.mktemp("image")
    binary = folder / "blip-serve"
    # The program looks for LibTorch at its path during the build: /opt/libtorch/lib in the build
    # stage.
    for command in (
        ["strip", "-o", binary, program()],
        [TOOLS / "bin/patchelf", "--set-rpath", "/opt/libtorch/lib", binary],
    ):
        assert tool(*command).returncode == 0
    root = folder / "root"
    built = (
        f"/opt/libtorch/lib={ROOT}/.libtorch/lib",
        f"/opt/blip-serve={binary}",
        f"/opt/blip-serve.cdx.json={sbom}",
    )
    assembled = tool(sys.executable, "-B", ROOT / "scripts/image_layout.py", root, TARGET / "base", *built)
    assert assembled.returncode == 0, assembled.stderr
    (root / "tmp").mkdir(exist_ok=True)
    return root, json.loads(assembled.stdout)


@pytest.fixture
def run(image):
    """A function that starts the program in the image's root.

    The root is read-only except /tmp. The program runs as the image's user and sees nothing of this
    machine.
    """
    if os.geteuid() != 0:
        pytest.skip("requires root, because only root can enter another root folder")
    root, stage = image
    mounts = (
        'mount --rbind "$0" "$0" && mount -o remount,bind,ro "$0"'
        ' && mount -t tmpfs -o mode=1777 tmp "$0/tmp" && mount -t proc proc "$0/proc"'
        # Every container has this device.
        ' && mount -t tmpfs dev "$0/dev" && mknod -m 666 "$0/dev/null" c 1 3'
    )
    started = []

    def start(*arguments):
        command = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "sh",
            "-c",
            f'{mounts} && exec chroot --userspec={stage["user"]} "$0" "$@"',
            root,
            *stage["entrypoint"],
            *arguments,
        ]
        environment = {"PATH": os.environ["PATH"], **stage["env"]}
        started.append(
            subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
        return started[-1]

    yield start
    for process in started:
        for child in children(process):
            # It is process 1 of its namespace, so that all others end with it.
            os.kill(child, signal.SIGKILL)
        process.communicate(timeout=120)


def children(process):
    """Returns the child processes."""
    if process.poll() is not None:
        return []
    return [
        int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]


def finished(process):
    """Waits for a process. Returns its output."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    return stdout


def programs(root):
    """Returns the names of all executables."""
    folders = [root / folder for folder in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin")]
    return {path.name for folder in folders if folder.exists() for path in folder.iterdir()}


def test_image_contains_no_other_executable(image):
    root, _ = image
    assert programs(root) - programs(TARGET / "base") == {"blip-serve"}
    assert not programs(root) & {"sh", "bash", "dash", "busybox", "perl", "python3", "apt", "dpkg"}


def test_program_runs_in_image_without_shell(run):
    version = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout
    assert finished(run("--version")) == version


def test_server_in_image_passes_its_health_check(run):
    server = run(
        "serve",
        "--device",
        "cpu",
        "--engine-threads",
        "1",
        "--grpc-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
    )
    line = server.stdout.readline()
    found = READY.search(line)
    assert found, (line, server.stderr.read() if server.poll() is not None else "")
    address = found.group(1)
    assert finished(run("health", "--server", address)) == "SERVING\n"
    # The file is outside of the image, so that the client runs outside, too.
    completed = tool(
        program(), "ask", "--server", address, "--image", IMAGE, "--question", "is there a circle?"
    )
    assert completed.returncode == 0 and "is there a circle?  -> " in completed.stdout, completed
    (child,) = children(server)
    status = Path(f"/proc/{child}/status").read_text()
    assert re.search(r"^Uid:\t65532\t65532\t65532\t65532$", status, re.MULTILINE)
    root_mounts = [each.split() for each in Path(f"/proc/{child}/mountinfo").read_text().splitlines()]
    (options,) = {each[5] for each in root_mounts if each[4] == "/"}
    assert "ro" in options.split(",")


def test_sbom_lists_crates_of_lock_file(image, sbom):
    root, _ = image
    shipped = json.loads((root / "usr/share/doc/blip-serve/sbom.cdx.json").read_text())
    assert shipped == json.loads(sbom.read_text())
    assert (shipped["bomFormat"], shipped["metadata"]["component"]["name"]) == ("CycloneDX", "blip-serve")
    listed = {(each["name"], each["version"]): each for each in shipped["components"]}
    locked = {
        (each["name"], each["version"]): each
        for each in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    }
    assert listed.keys() <= locked.keys()
    for name, component in listed.items():
        if checksum := locked[name].get("checksum"):
            assert component["hashes"] == [{"alg": "SHA-256", "content": checksum}]
    # The bill of materials lists every crate that cargo builds into the program.
    tree = tool(
        "cargo",
        "tree",
        "--manifest-path",
        ROOT / "Cargo.toml",
        "--locked",
        "--package",
        "blip-serve",
        "--edges",
        "normal,build",
        "--target",
        TRIPLE,
        "--prefix",
        "none",
        "--format",
        "{p}",
    )
    assert tree.returncode == 0, tree.stderr
    built = {tuple(line.split()[:2]) for line in tree.stdout.splitlines() if line}
    built = {(name, version.removeprefix("v")) for name, version in built} - {
        ("blip-serve", shipped["metadata"]["component"]["version"])
    }
    assert len(built) > 100 and built <= listed.keys(), built - listed.keys()
