"""The example clients, as users run them."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import trustme
from servers import TIMEOUT_S, ROOT, TOOLS

EXAMPLES = ROOT / "examples"
IMAGE = ROOT / "models/demo/demo.png"
QUESTIONS = ["what color is the shape?", "is there a circle?"]
KEY = "correct-horse-battery"
LANGUAGES = ["python", "node", "rust"]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A copy of the examples with node_modules. The working tree is not modified."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("node_modules", "rust"))
    shutil.copytree(ROOT / "proto", folder / "proto")
    (folder / "examples/node/node_modules").symlink_to(TOOLS / "node/node_modules")
    return folder / "examples"


@pytest.fixture
def begin(examples):
    """A function that starts the example of a language."""
    started = []

    def start(language, servers, *options, tls=False, key=None, questions=QUESTIONS, image=IMAGE):
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        addresses = [f"{host}:{server.port}" for server in servers]
        target = (
            ["--target", "dns:///" + addresses[0], "--tls"]
            if tls
            else ["--target", "ipv4:" + ",".join(addresses)]
        )
        command = {
            "python": [sys.executable, "-B", "-u", examples / "python/ask.py", *target],
            "node": ["node", examples / "node/ask.js", *target],
            "rust": [
                os.environ["BLIP_EXAMPLE_BIN"],
                *(f"--server={scheme}://{address}" for address in addresses),
            ],
        }[language]
        command += ["--image", image, *(f"--question={question}" for question in questions), *options]
        environment = {name: value for name, value in os.environ.items() if name != "BLIP_API_KEY"}
        environment |= {"BLIP_API_KEY": key} if key else {}
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
        process.kill()
        process.communicate()


@pytest.fixture
def ask(begin):
    """A function that runs the example of a language and returns its exit code and output."""

    def run(*arguments, **options):
        process = begin(*arguments, **options)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


def answers_of(result):
    """Returns the answers by question."""
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert all(image == str(IMAGE) for image, _, _ in lines), result
    return {question: answer for _, question, answer in lines}


@pytest.mark.parametrize("language", LANGUAGES)
def test_example_prints_the_answers_of_the_ask_command(servers, ask, language):
    pair = [server.start() for server in servers(2)]
    command = [
        os.environ["BLIP_SERVE_BIN"],
        "ask",
        "--server",
        f"http://{pair[0].address}",
        "--image",
        str(IMAGE),
    ]
    for question in QUESTIONS:
        command += ["--question", question]
    expected = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S).stdout
    result = ask(language, pair)
    assert result.returncode == 0, result
    answers = answers_of(result)
    assert set(answers) == set(QUESTIONS)
    for question, answer in answers.items():
        assert f"{question}  -> {answer} (" in expected, expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_example_finds_available_server(servers, ask, language):
    _, _, available = servers(3)
    available.start()
    result = ask(language, [*servers(2), available])
    assert (result.returncode, set(answers_of(result))) == (0, set(QUESTIONS)), result


@pytest.mark.parametrize("language", LANGUAGES)
def test_example_prints_errors_of_items_and_calls(servers, ask, language, tmp_path):
    (server,) = servers(1, "--auth-keys", KEY)
    server.start()
    text = tmp_path / "text.png"
    text.write_text("not an image")
    result = ask(language, [server], image=text, key=KEY)
    assert result.returncode == 1 and result.stdout.count("error: ") == len(QUESTIONS), result
    result = ask(language, [server])
    assert result.returncode == 1 and "missing api key" in result.stderr, result


@pytest.mark.parametrize("language", LANGUAGES)
def test_example_uses_tls_certificate_and_key(servers, ask, language, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, certificate in (
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("client", authority.issue_cert("client@x.y")),
    ):
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for part in certificate.cert_chain_pems:
            part.write_to_path(tmp_path / f"{name}.pem", append=True)
    (server,) = servers(
        1,
        "--auth-keys",
        KEY,
        "--tls-cert-file",
        tmp_path / "server.pem",
        "--tls-key-file",
        tmp_path / "server.key",
        "--tls-client-ca-file",
        tmp_path / "ca.pem",
    )
    server.start()
    files = (
        "--ca-file",
        tmp_path / "ca.pem",
        "--cert-file",
        tmp_path / "client.pem",
        "--key-file",
        tmp_path / "client.key",
    )
    result = ask(language, [server], *files, tls=True, key=KEY)
    assert (result.returncode, set(answers_of(result))) == (0, set(QUESTIONS)), result


@pytest.mark.parametrize("language", LANGUAGES)
def test_example_survives_server_failure(servers, begin, language):
    pair = [server.start() for server in servers(2, "--max-batch-questions", "1", "--self-test-idle-s", "0")]
    questions = [f"is number {number} there?" for number in range(1000)]
    process = begin(language, pair, questions=questions)
    dying = None
    while dying is None and process.poll() is None:
        working = (each for each in pair if each.metric("blip_jobs_answered_total") > 100)
        dying = next(working, None)
    (other,) = [server for server in pair if server is not dying]
    dying.kill()
    lines = list(process.stdout)
    assert process.wait(TIMEOUT_S) == 0, process.stderr.read()
    # Each question is answered once, and the killed server has answered some of them.
    assert sorted(line.split("\t")[1] for line in lines) == sorted(questions)
    calls = other.metric("blip_requests_total", 'method="Ask', 'code="OK"')
    assert calls == 1 and other.metric("blip_jobs_answered_total") < len(questions)


def test_hedged_call_survives_stopped_server(servers, examples):
    stopped, other = [server.start() for server in servers(2)]
    client, config = examples / "node/blip_client.js", examples / "service_config_hedging.json"
    target = f"ipv4:{stopped.address},{other.address}"
    shutil.copy(ROOT / "tests/fleet/hedge.mjs", examples / "node")
    command = ["node", examples / "node/hedge.mjs", client, config, target, IMAGE]
    with subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        # The client has connections to both servers.
        assert stopped.answered() > 0 and other.answered() > 0
        os.kill(stopped.process.pid, signal.SIGSTOP)
        answers = process.communicate("go\n", timeout=TIMEOUT_S)[0].splitlines()
    assert len(answers) == 2 and len(set(answers)) == 1
