"""Models by name: the program, a hub on loopback, and Python's own client of the hub over the same cache."""

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
from released_files import TAKEN as TAKEN_OF_RELEASED

QUESTIONS = ["how many things are in the image?", "is there a circle?", "what color is the square?"]
TAKEN = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"]


@pytest.fixture
def hub():
    server = HubServer({MODEL: ROOT / "models/demo"})
    yield server
    server.stop()


@pytest.fixture
def environment(hub, tmp_path, monkeypatch):
    """What both clients see: the hub, an empty home, a token."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_mine")
    return tmp_path


def run(*arguments):
    return subprocess.run([program(), *arguments], capture_output=True, text=True)


def python(expression):
    """What `huggingface_hub` in a process of its own says, since it reads its variables once."""
    command = [sys.executable, "-c", f"import huggingface_hub as hub; print({expression})"]
    return subprocess.run(command, capture_output=True, text=True)


def answers(server, picture):
    responses = server.client.ask([(picture, QUESTIONS)])
    return {response.question_index: (response.answer.text, response.answer.score) for response in responses}


def test_a_model_is_served_by_its_name_then_from_the_cache_without_its_hub(hub, environment, start, demo, picture, monkeypatch):
    expected = answers(demo, picture)
    assert len(expected) == len(QUESTIONS)
    server = start("--model", MODEL)
    assert server.model == f"{MODEL} (commit {COMMIT})"
    assert answers(server, picture) == expected
    assert {token for by, _, _, token in hub.requests if by == "cdn"} == {None}
    assert {token for by, _, _, token in hub.requests if by == "hub"} == {"Bearer hf_secret_of_mine"}

    hub.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert answers(start("--model", MODEL), picture) == expected


@pytest.mark.parametrize(
    ("name", "model", "task"),
    [
        ("blip-vqa-base", "demo", "question_answering"),
        ("blip-image-captioning-large", "demo-caption", "captioning"),
        ("blip-itm-base-coco", "demo-match", "matching"),
    ],
)
def test_of_the_files_of_a_released_checkpoint_those_that_are_needed_are_taken(environment, start, tmp_path, monkeypatch, name, model, task):
    """At their true size, with all names and what the models make of them: `make test-checkpoints`."""
    copy_as_released(ROOT / "models" / model, tmp_path / "published" / name)
    released = HubServer({f"Salesforce/{name}": tmp_path / "published" / name})
    monkeypatch.setenv("HF_ENDPOINT", released.url)
    try:
        server = start("--model", f"Salesforce/{name}")
        with urllib.request.urlopen(f"{server.http}/v1/models/{name}", timeout=60) as response:
            told = json.load(response)
        assert (told["source"], told["revision"], told["task"]) == (f"Salesforce/{name}", COMMIT, task)
        (snapshot,) = (environment / "hub").glob("*/snapshots/*")
        assert {path.name for path in snapshot.iterdir()} == TAKEN_OF_RELEASED | {SAFETENSORS}
        assert len([path for by, _, path, _ in released.requests if by == "cdn"]) == 1
    finally:
        released.stop()


def test_what_we_download_python_finds(hub, environment):
    completed = run("download", MODEL)
    assert completed.returncode == 0, completed.stderr
    folder = completed.stdout.strip()
    assert folder == str(environment / f"hub/models--test-org--blip-demo/snapshots/{COMMIT}")
    hub.stop()
    found = python(f"hub.snapshot_download({MODEL!r}, local_files_only=True)")
    assert found.stdout.strip() == folder, found.stderr
    for name in TAKEN:
        found = python(f"hub.hf_hub_download({MODEL!r}, {name!r}, local_files_only=True)")
        assert found.stdout.strip() == f"{folder}/{name}", found.stderr
    # What the model has not is known, too.
    found = python(f"hub.try_to_load_from_cache({MODEL!r}, 'vocab.txt') is hub._CACHED_NO_EXIST")
    assert found.stdout.strip() == "True", found.stderr


def test_what_python_downloads_we_find(hub, environment, start, demo, picture, monkeypatch):
    completed = python(f"hub.snapshot_download({MODEL!r})")
    assert completed.returncode == 0, completed.stderr
    before = len(hub.requests)
    again = run("download", MODEL)
    assert again.stdout == completed.stdout
    assert not [path for by, _, path, _ in hub.requests[before:] if by == "cdn"]

    hub.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert answers(start("--model", f"{MODEL}@{COMMIT}"), picture) == answers(demo, picture)


def test_two_programs_at_once_download_once(hub, environment):
    hub.hold.clear()
    both = [subprocess.Popen([program(), "download", MODEL], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert hub.asked_for_weights.wait(60)
    hub.hold.set()
    folders = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(folders) == 1
    assert len([path for by, _, path, _ in hub.requests if by == "cdn"]) == 1


def test_what_python_is_writing_is_waited_for(hub, environment):
    tag = hub.models[MODEL]["model.safetensors"].tag
    lock = environment / f"hub/.locks/models--test-org--blip-demo/{tag}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        process = subprocess.Popen([program(), "download", MODEL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        waits = next(line for line in process.stderr if "another process is downloading" in line)
        assert tag in waits
        assert not hub.asked_for_weights.is_set()
    assert process.communicate()[0].strip().endswith(COMMIT)
    assert process.returncode == 0
    assert hub.asked_for_weights.is_set()


def test_a_server_that_downloads_is_not_serving_and_stops_at_once(hub, environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    hub.hold.clear()
    command = [program(), "serve", "--model", MODEL, "--device", "cpu", "--http-listen", "off", "--metrics-listen", "off"]
    process = subprocess.Popen([*command, "--grpc-listen", address], stdout=subprocess.PIPE, text=True)
    assert hub.asked_for_weights.wait(60)
    asked = run("health", "--server", f"http://{address}")
    assert (asked.returncode, asked.stdout.strip()) == (1, "NOT_SERVING"), asked.stderr
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert process.stdout.read() == ""
    process.stdout.close()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("test-org/blip-dmeo", ["there is no folder test-org/blip-dmeo", "has no model test-org/blip-dmeo"]),
        (f"{MODEL}@v9", ["test-org/blip-demo has no revision v9"]),
        ("blip-demo", ["not demo", "no folder or file of that name", "org/name"]),
        ("../none/there", ["does not exist"]),
    ],
)
def test_a_name_that_means_nothing_is_one_clear_line(environment, model, words):
    completed = run("serve", "--model", model, "--device", "cpu", "--grpc-listen", "127.0.0.1:0", "--http-listen", "off")
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr.count("\n") == 1, completed.stderr
    for word in [*words, model.split("@")[0]]:
        assert word in completed.stderr, completed.stderr
    assert "secret" not in completed.stderr


def test_a_download_says_how_far_it_is_in_the_log(environment):
    completed = run("download", MODEL)
    assert "downloading" in completed.stderr and "percent=100" in completed.stderr, completed.stderr
    assert "secret" not in completed.stderr


def test_a_download_on_a_terminal_has_a_bar(hub, environment):
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    hub.hold.clear()
    process = subprocess.Popen([program(), "download", MODEL], stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    shown = b""
    # The end of the program is the end of its terminal, which is an error here.
    while b" left" not in shown:
        shown += os.read(screen, 4096)
    hub.hold.set()
    assert process.communicate()[0].strip().endswith(COMMIT)
    assert process.returncode == 0
    assert MODEL.encode() in shown and b"percent=" not in shown, shown
    os.close(screen)
