"""Data sets in Azure Blob Storage, on Azurite."""

import io
import os
import random
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

ROOT = Path(__file__).resolve().parents[2]
IMAGE = (ROOT / "models/demo/demo.png").read_bytes()
QUESTION = "what color is the circle?"
# The account of Azurite, which is public.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
WRONG_KEY = "d3Jvbmcta2V5LXdyb25nLWtleQ=="
# More than two parts of an upload.
LARGE_BYTES = 20 << 20


def tar(shard, large=False):
    """Returns a tar shard of three samples."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        files = {f"{shard}{number}.png": IMAGE for number in range(3)}
        if large:
            files[f"{shard}2.bin"] = random.Random(shard).randbytes(LARGE_BYTES)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """The URL of the account on a running Azurite."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(os.environ["BLIP_NODE_MODULES"]) / ".bin/azurite-blob"
    # Clients can be newer than the server.
    options = ["--blobPort", str(port), "--location", str(tmp_path_factory.mktemp("azurite"))]
    command = [program, *options, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        line = next((line for line in server.stdout if "successfully listens" in line), None)
        assert line, "Azurite has ended"
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"
        server.terminate()


@pytest.fixture(scope="module")
def service(endpoint):
    """A client of the server, with shards in the container `input`."""
    service = BlobServiceClient(endpoint, credential=KEY)
    container = service.create_container("input")
    for shard in range(2):
        container.upload_blob(f"set/s-{shard}.tar", tar(shard, large=shard == 1))
    return service


@pytest.fixture
def container(service, request):
    """An empty container."""
    return service.create_container(request.node.name.replace("_", "-")[:60])


@pytest.fixture(scope="module")
def settings(endpoint):
    """The environment of a program that uses the server."""
    return {
        **os.environ,
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        "AZURE_STORAGE_ENDPOINT": endpoint,
        "AZURE_ALLOW_HTTP": "true",
    }


def ask(source, output, *options, env):
    command = [os.environ["BLIP_SERVE_BIN"], "ask", "--local", "--device", "cpu", "-i", source, "-o", output]
    command += ["-q", QUESTION, *options]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def names(container):
    return [blob.name for blob in container.list_blobs()]


def content(container, name):
    return container.download_blob(name).readall()


def test_blobs_are_those_of_a_run_on_files(container, settings, tmp_path):
    (tmp_path / "in").mkdir()
    for shard in range(2):
        (tmp_path / f"in/s-{shard}.tar").write_bytes(tar(shard, large=shard == 1))
    completed = ask(tmp_path / "in", tmp_path / "out", env=settings)
    assert completed.returncode == 0, completed.stderr
    output = f"az://{container.container_name}/a/"
    completed = ask("az://input/set/s-{0..1}.tar", output, env=settings)
    assert completed.returncode == 0, completed.stderr
    assert names(container) == ["a/s-0.tar", "a/s-1.tar"]
    for name in ("s-0.tar", "s-1.tar"):
        assert content(container, f"a/{name}") == (tmp_path / "out" / name).read_bytes()
    refused = ask("az://input/set/", output, env=settings)
    assert refused.returncode == 1 and "already exists: use --resume" in refused.stderr
    container.delete_blob("a/s-0.tar")
    completed = ask("az://input/set/", output, "--resume", env=settings)
    assert "1 shards complete, 1 were already" in completed.stderr
    assert content(container, "a/s-0.tar") == (tmp_path / "out/s-0.tar").read_bytes()


def test_settings_of_the_emulator_reach_it(container, endpoint):
    env = {**os.environ, "AZURE_STORAGE_USE_EMULATOR": "true"}
    env["AZURITE_BLOB_STORAGE_URL"] = endpoint.rsplit("/", 1)[0]
    completed = ask("az://input/set/s-0.tar", f"az://{container.container_name}/a/", env=env)
    assert completed.returncode == 0, completed.stderr
    assert names(container) == ["a/s-0.tar"]


def test_missing_blob_is_named(container, settings):
    output = f"az://{container.container_name}/a/"
    completed = ask("az://input/set/s-{1..2}.tar", output, env=settings)
    assert completed.returncode == 1
    assert "az://input/set/s-2.tar: no such object or bucket (404)" in completed.stderr
    assert names(container) == ["a/s-1.tar"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AZURE_STORAGE_ACCOUNT_KEY": WRONG_KEY}, "access denied (403): check the credentials"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": ""}, "no credentials: set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
        ({"AZURE_STORAGE_ACCOUNT_NAME": ""}, "no account: set AZURE_STORAGE_ACCOUNT_NAME"),
        ({"AZURE_ALLOW_HTTP": ""}, "AZURE_STORAGE_ENDPOINT is an endpoint without TLS: set AZURE_ALLOW_HTTP=true to allow it"),
    ],
    ids=["wrong key", "no key", "no account", "plain http"],
)
def test_wrong_settings_are_named_without_secrets(service, settings, tmp_path, change, message):
    env = {name: value for name, value in (settings | change).items() if value}
    # In a cloud, the machine has credentials.
    env["AZURE_MSI_ENDPOINT"] = "http://127.0.0.1:1"
    completed = ask("az://input/set/s-0.tar", tmp_path, "--log", "debug", env=env)
    assert completed.returncode == 1
    assert f"az://input/set/s-0.tar: {message}" in completed.stderr
    for secret in (KEY, WRONG_KEY, "sig="):
        assert secret not in completed.stderr + completed.stdout
