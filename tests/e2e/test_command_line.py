"""What users expect of a command line: addresses, suggestions, units, colours, models."""

import contextlib
import json
import os
import pty
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
from conftest import ROOT, program

DEMO_IMAGE = str(ROOT / "models/demo/demo.png")
ASK = ["ask", DEMO_IMAGE, "-q", "is there a square?"]


def run(*arguments, **options):
    command = [program(), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def assert_one_line(completed, code, *words):
    assert completed.returncode == code, completed.stderr
    assert completed.stdout == ""
    assert completed.stderr.startswith("blip-serve: ") and completed.stderr.count("\n") == 1
    for word in words:
        assert word in completed.stderr


def certificate(folder, name, is_authority):
    """Writes a certificate as `openssl req -x509` makes it. Returns the paths of it and its key."""
    paths = [folder / f"{name}.pem", folder / f"{name}.key"]
    constraints = f"basicConstraints=critical,CA:{'TRUE' if is_authority else 'FALSE'}"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", constraints, "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


@pytest.fixture
def tls_server(start, tmp_path):
    """A function that starts a server with a new certificate, and returns both."""

    def launch(is_authority):
        cert, key = certificate(tmp_path, f"ca-{is_authority}", is_authority)
        return start("--tls-cert-file", str(cert), "--tls-key-file", str(key), connect=False), cert

    return launch


@contextlib.contextmanager
def foreign_http_server():
    """A server of HTTP/1.1 that knows no gRPC."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_address_needs_no_scheme(demo, tls_server):
    assert run(*ASK, "--server", demo.address).returncode == 0
    assert run(*ASK, "-s", f"http://{demo.address}").returncode == 0
    server, cert = tls_server(is_authority=False)
    completed = run(*ASK, "--server", server.address, "--ca-file", cert)
    assert completed.returncode == 0, completed.stderr
    assert_one_line(run(*ASK, "--server", "grpc://127.0.0.1:1"), 2, "grpc://127.0.0.1:1", "HOST:PORT")


def test_tls_mismatch_names_the_right_scheme(demo, tls_server):
    completed = run(*ASK, "--server", f"https://{demo.address}")
    assert_one_line(completed, 1, "does not speak TLS", f"use http://{demo.address}")
    server, _ = tls_server(is_authority=False)
    for command in (ASK, ["health"], ["models", "list"]):
        completed = run(*command, "--server", f"http://{server.address}")
        assert_one_line(completed, 1, "speaks TLS", f"use https://{server.address}")


def test_certificate_errors_say_what_to_do(tls_server, tmp_path):
    server, cert = tls_server(is_authority=True)
    completed = run(*ASK, "--server", server.address, "--ca-file", cert)
    assert_one_line(completed, 1, "CA:TRUE", "openssl req -x509", "CA:FALSE")
    server, cert = tls_server(is_authority=False)
    assert_one_line(run(*ASK, "--server", f"https://{server.address}"), 1, "issuer is unknown", "--ca-file")
    port = server.address.rpartition(":")[2]
    completed = run(*ASK, "--server", f"https://localhost:{port}", "--ca-file", cert)
    assert_one_line(completed, 1, "not valid for localhost", "subjectAltName")


def test_server_of_another_protocol_is_named(demo):
    with foreign_http_server() as port:
        assert_one_line(run(*ASK, "--server", f"127.0.0.1:{port}"), 1, "does not speak gRPC", "port 50051")
    # The metrics listener of a server speaks HTTP/2, too.
    assert_one_line(run(*ASK, "--server", demo.metrics), 1, "does not speak gRPC", "port 50051")
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert_one_line(run(*ASK, "--server", f"127.0.0.1:{port}"), 1, "UNIMPLEMENTED", "is a blip-serve server")
    finally:
        server.stop(None)


def test_refused_key_says_which_option_sets_it(start):
    server = start("--auth-keys", "correct-horse", connect=False)
    for command in (ASK, ["models", "list"]):
        command = [*command, "--server", server.address]
        assert_one_line(run(*command), 1, "missing api key", "--api-key", "BLIP_SERVE__API_KEY")
        assert_one_line(run(*command, "--api-key", "battery-staple"), 1, "unknown api key", "check --api-key")
        assert run(*command, "--api-key", "correct-horse").returncode == 0


def test_unknown_option_suggests_a_similar_one():
    assert_one_line(run("ask", "--imgae", "a.png"), 2, "did you mean --image?", "(see blip-serve ask --help)")
    assert_one_line(run("serve", "--modle", "demo"), 2, "did you mean --model?")
    assert_one_line(run("captoin"), 2, "did you mean caption?")


def test_sizes_and_times_take_units(demo, tmp_path):
    options = ["--max-image-bytes", "1.5MiB", "--drain-limit-s", "2m", "--target-p95-ms", "2s"]
    (tmp_path / "a.yaml").write_text("fetch: {max_bytes: 4GiB}\n")
    environment = {**os.environ, "BLIP_SERVE__LIMITS__MAX_QUESTION_BYTES": "8KiB"}
    completed = run("config", "--json", *options, "--config", tmp_path / "a.yaml", env=environment)
    assert completed.returncode == 0, completed.stderr
    settings = json.loads(completed.stdout)
    for section, name, value in [
        ("limits", "max_image_bytes", 1536 << 10),
        ("drain", "limit_s", 120),
        ("scheduler", "target_p95_ms", 2000),
        ("fetch", "max_bytes", 4 << 30),
        ("limits", "max_question_bytes", 8 << 10),
        ("grpc", "max_connections", 4096),
    ]:
        assert settings[section][name]["value"] == value, name
    assert_one_line(run("serve", "--max-image-bytes", "500ms"), 2, "--max-image-bytes", "500ms", "4GiB")
    assert_one_line(run("serve", "--drain-limit-s", "500ms"), 2, "no whole number of seconds")
    assert run(*ASK, "--server", demo.address, "--timeout-s", "30s").returncode == 0
    assert_one_line(run(*ASK, "--timeout-s", "soon"), 2, "--timeout-s", "soon", "500ms")


def test_models_are_listed_loaded_and_unloaded(start):
    server = start("--admin", connect=False)
    models = ["models", "list", "--server", server.address]
    header, row = run(*models).stdout.splitlines()
    assert header.split() == ["NAME", "TASK", "SOURCE", "DEVICE", "DTYPE", "PARAMETERS"]
    assert row.split()[:5] == ["demo", "ask", "demo", "cpu", "f32"]
    loaded = run("models", "load", "words=demo-caption", "--server", server.address, "--json")
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout)["task"] == "captioning"
    assert [json.loads(line)["name"] for line in run(*models, "--json").stdout.splitlines()] == ["demo", "words"]
    assert "source           demo-caption" in run("models", "show", "words", "-s", server.address).stdout
    assert run("models", "unload", "words", "-s", server.address).stdout == "words unloaded\n"
    completed = run("models", "show", "words", "-s", server.address)
    assert_one_line(completed, 1, "NOT_FOUND", "words", "demo")


def test_administration_that_is_off_says_how_to_enable_it(demo):
    completed = run("models", "load", "demo-caption", "--server", demo.address)
    assert_one_line(completed, 1, "UNIMPLEMENTED", "start the server with --admin")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_knows_commands_and_options(shell):
    completed = run("completions", shell)
    assert completed.returncode == 0 and "decode-worker" not in completed.stdout
    for word in ("caption", "retry-failed", "vision-dtype"):
        assert word in completed.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=completed.stdout, text=True, check=True)


def test_completion_script_of_another_shell_is_refused():
    assert_one_line(run("completions", "fihs"), 2, "fish")


def test_man_pages_describe_every_command(tmp_path):
    page = run("man", "ask").stdout
    assert page.startswith(".ie") and ".TH blip-serve-ask 1" in page and "num\\-beams" in page
    assert_one_line(run("man", "aks"), 2, "aks")
    assert run("man", "--output", tmp_path / "man1").returncode == 0
    pages = {path.name for path in (tmp_path / "man1").iterdir()}
    assert {"blip-serve.1", "blip-serve-serve.1", "blip-serve-models-load.1"} <= pages
    assert "blip-serve-decode-worker.1" not in pages


def on_terminal(*arguments, environment=None):
    """Returns what a command writes to a terminal."""
    primary, terminal = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", **(environment or {})}
    process = subprocess.Popen([program(), *arguments], stdout=terminal, stderr=terminal, env=variables)
    os.close(terminal)
    output = b""
    # The end of a terminal is an error on Linux.
    with contextlib.suppress(OSError):
        while chunk := os.read(primary, 4096):
            output += chunk
    os.close(primary)
    assert process.wait() == 0, output
    return output.decode()


def test_terminal_has_colours_and_the_progress_of_loading(demo):
    without = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    assert "NO_COLOR" not in without
    output = on_terminal(*ASK, "--local", "--device", "cpu", environment={"NO_COLOR": ""})
    assert "loading model demo" in output and re.search(r"model demo, device cpu, .* loaded in [\d.]+ s", output)
    assert "\x1b[1myes\x1b[0m" in output
    output = on_terminal(*ASK, "--server", demo.address, environment={"NO_COLOR": "1"})
    assert "\x1b" not in output and "-> yes" in output
    assert "\x1b" not in run(*ASK, "--server", demo.address).stdout


def test_ready_server_says_where_to_go(demo_image, tmp_path):
    command = [program(), "serve", "--device", "cpu", "--grpc-listen", "127.0.0.1:0", "--metrics-listen", "off"]
    process = subprocess.Popen([*command, "--http-listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        ready, page, docs, example = (process.stdout.readline() for _ in range(4))
        http = re.search(r"http (http://\S+),", ready.partition(", ")[2]).group(1)
        assert (page, docs) == (f"page: {http}/\n", f"docs: {http}/docs\n")
        (tmp_path / "photo.jpg").write_bytes(demo_image)
        pasted = example.removeprefix("try:  ").replace("blip-serve", program(), 1)
        completed = subprocess.run(pasted, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert completed.returncode == 0, completed.stderr
        assert completed.stdout.startswith("photo.jpg  what is this?  -> ")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
