"""Models from a hub, with a cache that blip-serve shares with `huggingface_hub`."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import urllib.request

import pytest
from conftest import ROOT, program
from filelock import FileLock
from hub_server import COMMIT, MODEL, HubServer
from released_files import SAFETENSORS, copy_as_released
from released_files import DOWNLOADED as RELEASED_FILES

QUESTIONS = ["how many things are in the image?", "is there a circle?", "what color is the square?"]
REQUIRED = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"]


@pytest.fixture
def hub():
    server = HubServer({MODEL: ROOT / "models/demo"})
    yield server
    server.stop()


@pytest.fixture
def environment(hub, tmp_path, monkeypatch):
    """The environment of both clients: the hub, an empty cache, a token."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_secret_token")
    return tmp_path


def run(*arguments):
    """Runs the program."""
    return subprocess.run([program(), *arguments], capture_output=True, text=True)


def python(expression):
    """Evaluates an expression in a new process, as `huggingface_hub` reads its variables once."""
    command = [sys.executable, "-c", f"import huggingface_hub as hub; print({expression})"]
    return subprocess.run(command, capture_output=True, text=True)


def answers(server, demo_image):
    """Returns (text, score) by question index."""
    responses = server.client.ask([(demo_image, QUESTIONS)])
    return {response.question_index: (response.answer.text, response.answer.score) for response in responses}


def test_model_name_is_served_from_hub_then_from_cache(
    hub, environment, start, demo, demo_image, monkeypatch
):
    expected = answers(demo, demo_image)
    assert len(expected) == len(QUESTIONS)
    server = start("--model", MODEL)
    assert server.model == f"{MODEL} (commit {COMMIT})"
    assert answers(server, demo_image) == expected
    assert {token for by, _, _, token in hub.requests if by == "cdn"} == {None}
    assert {token for by, _, _, token in hub.requests if by == "hub"} == {"Bearer hf_secret_token"}

    hub.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert answers(start("--model", MODEL), demo_image) == expected


@pytest.mark.parametrize(
    ("name", "model", "task"),
    [
        ("blip-vqa-base", "demo", "question_answering"),
        ("blip-image-captioning-large", "demo-caption", "captioning"),
        ("blip-itm-base-coco", "demo-match", "matching"),
    ],
)
def test_released_checkpoint_downloads_required_files_only(
    environment, start, tmp_path, monkeypatch, name, model, task
):
    """`make test-checkpoints` repeats this for every released checkpoint in its full size."""
    copy_as_released(ROOT / "models" / model, tmp_path / "published" / name)
    released = HubServer({f"Salesforce/{name}": tmp_path / "published" / name})
    monkeypatch.setenv("HF_ENDPOINT", released.url)
    try:
        server = start("--model", f"Salesforce/{name}")
        with urllib.request.urlopen(f"{server.http}/v1/models/{name}", timeout=60) as response:
            info = json.load(response)
        assert (info["source"], info["revision"], info["task"]) == (f"Salesforce/{name}", COMMIT, task)
        (snapshot,) = (environment / "hub").glob("*/snapshots/*")
        assert {path.name for path in snapshot.iterdir()} == RELEASED_FILES | {SAFETENSORS}
        assert len([path for by, _, path, _ in released.requests if by == "cdn"]) == 1
    finally:
        released.stop()


def test_downloaded_model_is_found_by_huggingface_hub(hub, environment):
    completed = run("download", MODEL)
    assert completed.returncode == 0, completed.stderr
    folder = completed.stdout.strip()
    assert folder == str(environment / f"hub/models--test-org--blip-demo/snapshots/{COMMIT}")
    hub.stop()
    found = python(f"hub.snapshot_download({MODEL!r}, local_files_only=True)")
    assert found.stdout.strip() == folder, found.stderr
    for name in REQUIRED:
        found = python(f"hub.hf_hub_download({MODEL!r}, {name!r}, local_files_only=True)")
        assert found.stdout.strip() == f"{folder}/{name}", found.stderr
    # The cache also records files that the model lacks.
    found = python(f"hub.try_to_load_from_cache({MODEL!r}, 'vocab.txt') is hub._CACHED_NO_EXIST")
    assert found.stdout.strip() == "True", found.stderr


def test_model_of_huggingface_hub_is_found(hub, environment, start, demo, demo_image, monkeypatch):
    completed = python(f"hub.snapshot_download({MODEL!r})")
    assert completed.returncode == 0, completed.stderr
    before = len(hub.requests)
    again = run("download", MODEL)
    assert again.stdout == completed.stdout
    assert not [path for by, _, path, _ in hub.requests[before:] if by == "cdn"]

    hub.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert answers(start("--model", f"{MODEL}@{COMMIT}"), demo_image) == answers(demo, demo_image)


def test_concurrent_downloads_fetch_weights_once(hub, environment):
    hub.hold.clear()
    both = [
        subprocess.Popen([program(), "download", MODEL], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert hub.weights_requested.wait(60)
    hub.hold.set()
    folders = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(folders) == 1
    assert len([path for by, _, path, _ in hub.requests if by == "cdn"]) == 1


def test_download_waits_for_lock_of_huggingface_hub(hub, environment):
    tag = hub.models[MODEL]["model.safetensors"].tag
    lock = environment / f"hub/.locks/models--test-org--blip-demo/{tag}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        process = subprocess.Popen(
            [program(), "download", MODEL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        waiting = next(line for line in process.stderr if "another process is downloading" in line)
        assert tag in waiting
        assert not hub.weights_requested.is_set()
    assert process.communicate()[0].strip().endswith(COMMIT)
    assert process.returncode == 0
    assert hub.weights_requested.is_set()


def test_downloading_server_is_not_serving_and_stops(hub, environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    hub.hold.clear()
    command = [
        program(),
        "serve",
        "--model",
        MODEL,
        "--device",
        "cpu",
        "--http-listen",
        "off",
        "--metrics-listen",
        "off",
    ]
    process = subprocess.Popen([*command, "--grpc-listen", address], stdout=subprocess.PIPE, text=True)
    assert hub.weights_requested.wait(60)
    health = run("health", "--server", f"http://{address}")
    assert (health.returncode, health.stdout.strip()) == (1, "NOT_SERVING"), health.stderr
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert process.stdout.read() == ""
    process.stdout.close()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "test-org/blip-dmeo",
            ["no folder test-org/blip-dmeo, and the download failed", "has no model test-org/blip-dmeo"],
        ),
        (f"{MODEL}@v9", ["test-org/blip-demo has no revision v9"]),
        ("blip-demo", ["not an embedded model (demo", "a folder or a file", "org/name"]),
        ("../none/there", ["does not exist"]),
    ],
)
def test_unknown_model_name_prints_one_line(environment, model, words):
    completed = run(
        "serve", "--model", model, "--device", "cpu", "--grpc-listen", "127.0.0.1:0", "--http-listen", "off"
    )
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr.count("\n") == 1, completed.stderr
    for word in [*words, model.split("@")[0]]:
        assert word in completed.stderr, completed.stderr
    assert "secret" not in completed.stderr


def test_download_logs_its_progress(environment):
    completed = run("download", MODEL)
    assert "download started" in completed.stderr and "percent=100" in completed.stderr, completed.stderr
    assert "secret" not in completed.stderr


def test_download_on_terminal_shows_progress_bar(hub, environment):
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    hub.hold.clear()
    process = subprocess.Popen(
        [program(), "download", MODEL], stdout=subprocess.PIPE, stderr=terminal, text=True
    )
    os.close(terminal)
    shown = b""
    # A read fails after the program has closed the terminal.
    while b" left" not in shown:
        shown += os.read(screen, 4096)
    hub.hold.set()
    assert process.communicate()[0].strip().endswith(COMMIT)
    assert process.returncode == 0
    assert MODEL.encode() in shown and b"percent=" not in shown, shown
    os.close(screen)
