"""Start, stop, exit codes and messages of the program."""

import json
import re
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import requests
from conftest import ROOT, program

IMAGE = str(ROOT / "models/demo/demo.png")


def run(*arguments):
    """Runs the program."""
    return subprocess.run([program(), *arguments], capture_output=True, text=True)


def assert_one_line(completed, code, *words):
    """Checks the exit code, and that stderr is one line with these words."""
    assert completed.returncode == code, completed
    assert completed.stdout == ""
    assert completed.stderr.count("\n") == 1, completed.stderr
    for word in words:
        assert word in completed.stderr, completed.stderr


def test_sigterm_finishes_calls_in_flight_and_exits_0(start, demo_image):
    server = start("--max-batch-questions", "1")
    call = server.client.ask([(demo_image, [f"is number {n} there?" for n in range(100)])])
    next(call)
    server.process.send_signal(signal.SIGTERM)
    assert len(list(call)) == 99
    assert server.process.wait() == 0


def test_second_signal_ends_drain(start):
    server = start("--drain-grace-s", "3600")
    server.process.send_signal(signal.SIGTERM)
    while server.client.health() != "NOT_SERVING":
        pass
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait() == 130


def test_sigterm_under_full_load_loses_no_answer(start, demo_image):
    server = start("--max-batch-questions", "8", "--drain-grace-s", "1", "--drain-limit-s", "300")
    questions = [f"is number {number} there?" for number in range(10)]
    answered = threading.Semaphore(0)

    def ask_until_rejected(client):
        while True:
            received = []
            try:
                received.extend(response.question_index for response in client.ask([(demo_image, questions)]))
            except grpc.RpcError as error:
                return len(received), error.code()
            assert sorted(received) == list(range(len(questions)))
            answered.release()

    clients = [server.connect() for _ in range(32)]
    with ThreadPoolExecutor(len(clients)) as pool:
        ends = [pool.submit(ask_until_rejected, client) for client in clients]
        for _ in range(2 * len(clients)):
            answered.acquire()
        server.process.send_signal(signal.SIGTERM)
        # Accepted calls are answered completely. Others fail before their first response.
        assert {end.result() for end in ends} == {(0, grpc.StatusCode.UNAVAILABLE)}
    assert server.process.wait() == 0


def test_drain_ends_readiness_and_still_answers_calls(start, demo_image):
    server = start("--drain-grace-s", "3600")

    def status(path):
        return requests.get(server.metrics + path, timeout=60).status_code

    assert (status("/readyz"), status("/livez")) == (200, 200)
    server.process.send_signal(signal.SIGTERM)
    while status("/readyz") == 200:
        pass
    assert (server.client.health(), status("/livez")) == ("NOT_SERVING", 200)
    assert "blip_ready 0\n" in requests.get(server.metrics + "/metrics", timeout=60).text
    assert len(list(server.client.ask([(demo_image, ["what?"])]))) == 1
    # New connections are accepted, too.
    assert len(list(server.connect().ask([(demo_image, ["what?"])]))) == 1


def test_second_signal_abandons_calls_in_flight(start, demo_image):
    server = start("--max-batch-questions", "1", "--drain-grace-s", "3600")
    other = server.connect()
    assert other.health() == "SERVING"
    call = server.client.ask([(demo_image, [f"is number {n} there?" for n in range(1000)])])
    next(call)
    server.process.send_signal(signal.SIGTERM)
    while other.health() != "NOT_SERVING":
        pass
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait() == 143
    call.cancel()


def test_drain_limit_abandons_calls_and_exits_3(start, demo_image, tmp_path):
    log = tmp_path / "log"
    server = start("--max-batch-questions", "1", "--drain-grace-s", "0", "--drain-limit-s", "0", log=log)
    calls = [
        server.connect().ask([(demo_image, [f"is number {n} there?" for n in range(1000)])]) for _ in range(3)
    ]
    for call in calls:
        next(call)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait() == 3
    (line,) = [line for line in log.read_text(encoding="utf-8").splitlines() if "drain limit reached" in line]
    assert "WARN" in line and re.search(r"calls_abandoned\S*=\S*3\b", line), line
    for call in calls:
        call.cancel()


def test_port_in_use_prints_one_line(demo):
    assert_one_line(run("serve", "--grpc-listen", demo.address), 1, demo.address, "in use")


def test_unknown_device_prints_one_line():
    assert_one_line(run("serve", "--device", "gpu"), 2, '"gpu"', "auto, cpu, cuda or cuda:N")


def test_unknown_dtype_prints_one_line():
    assert_one_line(run("serve", "--dtype", "int4"), 2, '"int4"', "f32, f16, bf16 or int8")


def test_int8_vision_with_f16_prints_one_line():
    options = ("--device", "cpu", "--dtype", "f16", "--vision-dtype", "int8", "--grpc-listen", "127.0.0.1:0")
    message = (
        "vision_dtype int8 is not available: model in f16 on cpu with cpu_kernels auto, expected f32, bf16 or int8"
    )
    assert_one_line(run("serve", *options), 1, message)


def test_unsupported_cpu_kernels_print_one_line():
    options = ("--device", "cpu", "--dtype", "f16", "--cpu-kernels", "native", "--grpc-listen", "127.0.0.1:0")
    message = "cpu_kernels native is not available: model in f16 on cpu, expected f32 on cpu"
    assert_one_line(run("serve", *options), 1, message)


def test_cuda_kernels_on_cpu_print_one_line():
    options = ("--device", "cpu", "--cuda-kernels", "native", "--grpc-listen", "127.0.0.1:0")
    message = "cuda_kernels native is not available: model in f32 on cpu, expected f16 or f32 on cuda"
    assert_one_line(run("serve", *options), 1, message)


def test_batch_limits_are_measured_before_ready(start, demo_image, tmp_path):
    log = tmp_path / "log"
    start(
        "--target-p95-ms",
        "3600000",
        "--max-batch-images",
        "2",
        "--max-batch-questions",
        "4",
        "--log",
        "info",
        "--log-format",
        "json",
        log=log,
    )
    lines = list(map(json.loads, log.read_text().splitlines()))
    measured = [(line["images"], line["questions"]) for line in lines if line["message"] == "batch measured"]
    assert measured == [(1, 1), (2, 2), (2, 4)]
    (limits,) = [line for line in lines if line["message"] == "batch limits chosen"]
    assert (limits["images"], limits["questions"]) == (2, 4)


def test_unreachable_target_warns_and_uses_single_batches(start, demo_image, tmp_path):
    log = tmp_path / "log"
    server = start("--target-p95-ms", "1", "--log-format", "json", log=log)
    (warning,) = [line for line in map(json.loads, log.read_text().splitlines()) if line["level"] == "WARN"]
    assert "target_p95_ms" in warning["message"]
    outcomes = server.client.outcomes([(demo_image, ["is there a circle?", "is there a ring?"])])
    assert [answer.timing.batch_questions for answer in outcomes.values()] == [1, 1]


def test_missing_cuda_prints_one_line():
    assert_one_line(run("serve", "--device", "cuda:77", "--grpc-listen", "127.0.0.1:0"), 1, "cuda")


def test_invalid_model_folder_prints_one_line(tmp_path):
    listen = ("--grpc-listen", "127.0.0.1:0")
    assert_one_line(run("serve", "--model", str(tmp_path / "none"), *listen), 1, "does not exist")
    assert_one_line(run("serve", "--model", str(tmp_path), *listen), 1, "config.json")
    demo = ROOT / "models/demo"
    for file in demo.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert_one_line(run("serve", "--model", str(tmp_path), *listen), 1, "safetensors")
    weights = (demo / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert_one_line(run("serve", "--model", str(tmp_path), *listen), 1, "model.safetensors")


def test_unreachable_server_prints_one_line():
    completed = run("ask", "--server", "http://127.0.0.1:1", "--image", IMAGE, "--question", "what?")
    assert_one_line(completed, 1, "http://127.0.0.1:1", "refused")


def test_missing_image_file_prints_one_line(demo):
    completed = run(
        "ask", "--server", f"http://{demo.address}", "--image", "/no/such.png", "--question", "what?"
    )
    assert_one_line(completed, 1, "/no/such.png")


def test_ask_prints_one_line_per_answer(demo):
    questions = ["how many circles are in the picture?", "is there a square?"]
    options = [part for question in questions for part in ("--question", question)]
    completed = run("ask", "--server", f"http://{demo.address}", "--image", IMAGE, *options)
    assert completed.returncode == 0 and completed.stderr == ""
    lines = completed.stdout.splitlines()
    assert len(lines) == 2
    for question in questions:
        assert sum(line.startswith(f"{IMAGE}  {question}  -> ") for line in lines) == 1


def test_ask_json_prints_errors_and_exits_1(demo, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not an image")
    completed = run(
        "ask",
        "--server",
        f"http://{demo.address}",
        "--image",
        IMAGE,
        "--image",
        str(text),
        "--question",
        "what?",
        "--json",
    )
    assert completed.returncode == 1
    lines = {line["image"]: line for line in map(json.loads, completed.stdout.splitlines())}
    assert lines[IMAGE]["answer"] and lines[IMAGE]["timing"]["total_ms"] > 0
    assert lines[str(text)]["error"]["reason"] == "IMAGE_FORMAT_UNKNOWN"


def test_help_shows_commands_and_examples():
    completed = run("--help")
    assert completed.returncode == 0
    for word in ("serve", "ask", "ask cat.jpg -q"):
        assert word in completed.stdout
    assert "Exit codes" in run("serve", "--help").stdout


def test_health_exit_code_reports_readiness(start):
    server = start("--drain-grace-s", "3600")

    def health(*options):
        return run("health", "--server", f"http://{server.address}", *options)

    assert (health().returncode, health().stdout) == (0, "SERVING\n")
    unknown = health("--service", "another.Service")
    assert (unknown.returncode, unknown.stdout) == (1, "SERVICE_UNKNOWN\n")
    server.process.send_signal(signal.SIGTERM)
    while server.client.health() != "NOT_SERVING":
        pass
    assert (health().returncode, health().stdout) == (1, "NOT_SERVING\n")
    server.process.kill()
    server.process.wait()
    assert_one_line(health(), 1, "cannot reach")
