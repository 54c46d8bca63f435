"""How the program starts, stops and speaks to its user."""

import json
import re
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import requests
from conftest import ROOT, program

PICTURE = str(ROOT / "models/demo/demo.png")


def run(*arguments):
    return subprocess.run([program(), *arguments], capture_output=True, text=True)


def assert_one_line(completed, code, *words):
    assert completed.returncode == code, completed
    assert completed.stdout == ""
    assert completed.stderr.count("\n") == 1, completed.stderr
    for word in words:
        assert word in completed.stderr, completed.stderr


def test_sigterm_answers_what_is_in_flight_and_exits_0(start, picture):
    server = start("--max-batch-questions", "1")
    call = server.client.ask([(picture, [f"is number {n} there?" for n in range(100)])])
    next(call)
    server.process.send_signal(signal.SIGTERM)
    assert len(list(call)) == 99
    assert server.process.wait() == 0


def test_a_second_signal_ends_the_drain_at_once(start):
    server = start("--drain-grace-s", "3600")
    server.process.send_signal(signal.SIGTERM)
    while server.client.health() != "NOT_SERVING":
        pass
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait() == 130


def test_sigterm_under_full_load_loses_nothing(start, picture):
    server = start("--max-batch-questions", "8", "--drain-grace-s", "1", "--drain-limit-s", "300")
    questions = [f"is number {number} there?" for number in range(10)]
    answered = threading.Semaphore(0)

    def ask_until_refused(client):
        while True:
            seen = []
            try:
                seen.extend(response.question_index for response in client.ask([(picture, questions)]))
            except grpc.RpcError as error:
                return len(seen), error.code()
            assert sorted(seen) == list(range(len(questions)))
            answered.release()

    clients = [server.connect() for _ in range(32)]
    with ThreadPoolExecutor(len(clients)) as crowd:
        ends = [crowd.submit(ask_until_refused, client) for client in clients]
        for _ in range(2 * len(clients)):
            answered.acquire()
        server.process.send_signal(signal.SIGTERM)
        # What was taken is answered whole; what was not is told so before anything has come.
        assert {end.result() for end in ends} == {(0, grpc.StatusCode.UNAVAILABLE)}
    assert server.process.wait() == 0


def test_readiness_goes_first_and_calls_are_answered_meanwhile(start, picture):
    server = start("--drain-grace-s", "3600")

    def status(path):
        return requests.get(server.metrics + path, timeout=60).status_code

    assert (status("/readyz"), status("/livez")) == (200, 200)
    server.process.send_signal(signal.SIGTERM)
    while status("/readyz") == 200:
        pass
    assert (server.client.health(), status("/livez")) == ("NOT_SERVING", 200)
    assert "blip_ready 0\n" in requests.get(server.metrics + "/metrics", timeout=60).text
    assert len(list(server.client.ask([(picture, ["what?"])]))) == 1
    # On a connection that is new, too.
    assert len(list(server.connect().ask([(picture, ["what?"])]))) == 1


def test_a_second_signal_ends_the_drain_at_once_whatever_is_in_flight(start, picture):
    server = start("--max-batch-questions", "1", "--drain-grace-s", "3600")
    other = server.connect()
    assert other.health() == "SERVING"
    call = server.client.ask([(picture, [f"is number {n} there?" for n in range(1000)])])
    next(call)
    server.process.send_signal(signal.SIGTERM)
    while other.health() != "NOT_SERVING":
        pass
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait() == 143
    call.cancel()


def test_calls_still_in_flight_at_the_drain_limit_are_abandoned_counted_and_logged_with_exit_code_3(start, picture, tmp_path):
    log = tmp_path / "log"
    server = start("--max-batch-questions", "1", "--drain-grace-s", "0", "--drain-limit-s", "0", log=log)
    calls = [server.connect().ask([(picture, [f"is number {n} there?" for n in range(1000)])]) for _ in range(3)]
    for call in calls:
        next(call)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait() == 3
    (line,) = [line for line in log.read_text(encoding="utf-8").splitlines() if "drain limit reached" in line]
    assert "WARN" in line and re.search(r"calls_abandoned\S*=\S*3\b", line), line
    for call in calls:
        call.cancel()


def test_a_port_in_use_is_one_clear_line(demo):
    assert_one_line(run("serve", "--grpc-listen", demo.address), 1, demo.address, "in use")


def test_an_unknown_device_is_one_clear_line():
    assert_one_line(run("serve", "--device", "gpu"), 2, '"gpu"', "auto, cpu, cuda or cuda:N")


def test_an_unknown_dtype_is_one_clear_line():
    assert_one_line(run("serve", "--dtype", "int8"), 2, '"int8"', "f32, f16 or bf16")


def test_int8_for_a_model_that_is_not_in_f32_is_one_clear_line():
    options = ("--device", "cpu", "--dtype", "bf16", "--vision-dtype", "int8", "--grpc-listen", "127.0.0.1:0")
    assert_one_line(run("serve", *options), 1, "vision_dtype is int8", "f32 on the cpu", "bf16")


def test_kernels_that_a_dtype_does_not_have_are_refused_in_one_line():
    options = ("--device", "cpu", "--dtype", "f16", "--cpu-kernels", "own", "--grpc-listen", "127.0.0.1:0")
    assert_one_line(run("serve", *options), 1, "cpu_kernels is own", "f32 on the cpu", "f16")


def test_cuda_kernels_are_refused_on_the_cpu_in_one_line():
    options = ("--device", "cpu", "--cuda-kernels", "own", "--grpc-listen", "127.0.0.1:0")
    assert_one_line(run("serve", *options), 1, "cuda_kernels is own", "f16 or f32 on cuda", "f32 on cpu")


def test_batches_are_measured_and_their_limits_chosen_before_the_server_is_ready(start, picture, tmp_path):
    log = tmp_path / "log"
    start("--slo-p95-ms", "3600000", "--max-batch-images", "2", "--max-batch-questions", "4", "--log", "info", "--log-format", "json", log=log)
    lines = list(map(json.loads, log.read_text().splitlines()))
    measured = [(line["images"], line["questions"]) for line in lines if line["message"] == "batch measured"]
    assert measured == [(1, 1), (2, 2), (2, 4)]
    (chosen,) = [line for line in lines if line["message"] == "batch limits chosen"]
    assert (chosen["images"], chosen["questions"]) == (2, 4)


def test_a_time_that_no_batch_keeps_is_warned_of_and_questions_are_answered_one_at_a_time(start, picture, tmp_path):
    log = tmp_path / "log"
    server = start("--slo-p95-ms", "1", "--log-format", "json", log=log)
    (warned,) = [line for line in map(json.loads, log.read_text().splitlines()) if line["level"] == "WARN"]
    assert "slo_p95_ms" in warned["message"]
    outcomes = server.client.outcomes([(picture, ["is there a circle?", "is there a ring?"])])
    assert [answer.timing.batch_questions for answer in outcomes.values()] == [1, 1]


def test_cuda_without_cuda_is_one_clear_line_and_never_the_cpu():
    assert_one_line(run("serve", "--device", "cuda:77", "--grpc-listen", "127.0.0.1:0"), 1, "cuda")


def test_a_wrong_model_folder_is_one_clear_line(tmp_path):
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


def test_a_server_that_is_not_there_is_one_clear_line():
    asked = run("ask", "--server", "http://127.0.0.1:1", "--image", PICTURE, "--question", "what?")
    assert_one_line(asked, 1, "http://127.0.0.1:1", "refused")


def test_an_image_file_that_is_not_there_is_one_clear_line(demo):
    asked = run("ask", "--server", f"http://{demo.address}", "--image", "/no/such.png", "--question", "what?")
    assert_one_line(asked, 1, "/no/such.png")


def test_ask_prints_a_line_for_each_answer(demo):
    questions = ["how many circles are in the picture?", "is there a square?"]
    options = [part for question in questions for part in ("--question", question)]
    asked = run("ask", "--server", f"http://{demo.address}", "--image", PICTURE, *options)
    assert asked.returncode == 0 and asked.stderr == ""
    lines = asked.stdout.splitlines()
    assert len(lines) == 2
    for question in questions:
        assert sum(line.startswith(f"{PICTURE}  {question}  -> ") for line in lines) == 1


def test_ask_prints_json_lines_errors_among_them_and_exits_1_if_there_is_one(demo, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    asked = run(
        "ask", "--server", f"http://{demo.address}", "--image", PICTURE, "--image", str(text), "--question", "what?", "--json"
    )
    assert asked.returncode == 1
    lines = {line["image"]: line for line in map(json.loads, asked.stdout.splitlines())}
    assert lines[PICTURE]["answer"] and lines[PICTURE]["timing"]["total_ms"] > 0
    assert lines[str(text)]["error"]["reason"] == "IMAGE_FORMAT_UNKNOWN"


def test_help_shows_every_command_with_examples():
    shown = run("--help")
    assert shown.returncode == 0
    for word in ("serve", "ask", "--image cat.jpg"):
        assert word in shown.stdout
    assert "Exit codes" in run("serve", "--help").stdout


def test_health_tells_by_its_exit_code_whether_a_server_is_ready(start):
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
