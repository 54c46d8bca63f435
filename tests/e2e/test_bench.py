"""The load generator, against blip-serve and against another server."""

import http.server
import json
import subprocess
import threading

import pytest
from conftest import program

SHORT = ("--clients", "4", "--connections", "2", "--seconds", "1", "--warm-up-s", "0", "--size", "64x48")


def bench(*options):
    """Runs `blip-serve bench`."""
    return subprocess.run(
        [program(), "bench", *map(str, options)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def json_server():
    """(URL, received requests) of a JSON server that answers all but every third question."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            received.append((self.path, request))
            if "inputs" in request:
                body = {"outputs": [{"name": "answer", "data": ["red"] * request["inputs"][0]["shape"][0]}]}
            else:
                body = {
                    "answers": [
                        None if number % 3 == 2 else "red" for number, _ in enumerate(request["questions"])
                    ]
                }
            text = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("protocol", ["grpc", "card"])
def test_closed_loop_report_counts_all_answers(demo, protocol, tmp_path):
    server = f"http://{demo.address}" if protocol == "grpc" else demo.http
    report, plot = tmp_path / "report.json", tmp_path / "plot.svg"
    result = bench(
        "--server",
        server,
        "--protocol",
        protocol,
        *SHORT,
        "--questions-per-image",
        2,
        "--output",
        report,
        "--plot",
        plot,
    )
    assert (result.returncode, result.stderr) == (0, "")
    content = json.loads(report.read_text())
    assert content["failed"] == 0 and content["errors"] == {}
    assert content["answered"] == 2 * content["requests"] > 0
    assert content["options"]["clients"] == "4" and content["options"]["protocol"] == protocol
    latency = content["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]
    assert f"{content['answered']} questions answered, 0 failed" in result.stdout
    assert plot.read_text().startswith("<svg")


def test_open_loop_has_poisson_rate_and_reports_compare(demo, tmp_path):
    reports = [tmp_path / "a.json", tmp_path / "b.json"]
    for report, rate in zip(reports, ("30", "60"), strict=True):
        result = bench(
            "--server",
            f"http://{demo.address}",
            "--rate",
            rate,
            "--seconds",
            2,
            "--warm-up-s",
            0,
            "--size",
            "64x48",
            "--reuse",
            1,
            "--pool",
            3,
            "--name",
            f"at {rate}",
            "--output",
            report,
        )
        assert result.returncode == 0, result.stderr
    sparse, dense = (json.loads(report.read_text())["requests"] for report in reports)
    # Poisson: 60 and 120 requests, within five standard deviations.
    assert 60 - 39 < sparse < 60 + 39 and 120 - 55 < dense < 120 + 55
    result = bench("--compare", *reports)
    assert result.returncode == 0
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["at", "30", "at", "60", "ratio"]
    assert any(row.split() == ["rate", "30", "60"] for row in rows)


def test_other_protocols_are_sent_and_missing_answers_counted(json_server, tmp_path):
    url, received = json_server
    report = tmp_path / "report.json"
    result = bench(
        "--server",
        f"{url}/predict",
        "--protocol",
        "json",
        *SHORT,
        "--questions-per-image",
        3,
        "--output",
        report,
    )
    assert result.returncode == 0, result.stderr
    content = json.loads(report.read_text())
    assert (
        content["errors"] == {"NULL": content["failed"]} and content["answered"] == 2 * content["failed"] > 0
    )
    path, request = received[0]
    assert (
        path == "/predict" and len(request["questions"]) == 3 and request["image"].startswith("iVBORw0KGgo")
    )
    received.clear()
    result = bench(
        "--server", f"{url}/v2/models/blip/infer", "--protocol", "kserve", *SHORT, "--output", report
    )
    assert (result.returncode, json.loads(report.read_text())["failed"]) == (0, 0)
    path, request = received[0]
    assert path == "/v2/models/blip/infer" and [tensor["name"] for tensor in request["inputs"]] == [
        "image",
        "question",
    ]


def test_precisions_are_measured_in_turn(tmp_path):
    report = tmp_path / "report.json"
    result = bench("--precisions", "--device", "cpu", "--compared-requests", 7, "--output", report)
    assert (result.returncode, result.stderr) == (0, "")
    rows = json.loads(report.read_text())
    assert [row["options"] for row in rows] == [
        "--dtype f32",
        "--dtype bf16",
        "--dtype int8 --text-dtype bf16",
        "--dtype int8",
    ]
    for row, line in zip(rows, result.stdout.splitlines()[1:5], strict=True):
        assert line.startswith(row["options"])
        assert row["error"] is None and len(row["answers"]) == 7 and all(row["answers"])
        assert row["changed_answers"] == sum(a != b for a, b in zip(row["answers"], rows[0]["answers"], strict=True))
        assert min(row["new_image_ms"], row["cached_image_ms"], row["requests_per_s"]) > 0
        assert row["resident_bytes"] > 30e6
    assert "without a changed answer" in result.stdout


def test_precisions_name_a_model_that_cannot_be_loaded():
    result = bench("--precisions", "--model", "./nowhere")
    assert result.returncode == 1
    for line in result.stdout.splitlines()[1:]:
        assert "not measured: " in line and "nowhere" in line


@pytest.mark.parametrize(
    "options, message",
    [
        (("--precisions", "--rate", "5"), "cannot be used with"),
        (("--precisions", "--dtype", "bf16"), "--precisions chooses model.dtype: omit the option"),
        (("--precisions", "--server", "127.0.0.1:1"), "--precisions loads the model in this process"),
        (("--model", "demo"), "--precisions"),
        (("--dtype", "bf16"), "--dtype is an option of --precisions"),
        (("--size", "640"), 'invalid size "640": must be WIDTHxHEIGHT'),
        (("--rate", "0"), 'invalid rate "0": must be more than 0'),
        (("--reuse", "2"), "invalid reuse 2: must be 0 to 1"),
        (("--images", "/nowhere"), "cannot read /nowhere"),
        (("--questions", "/nowhere"), "cannot read /nowhere"),
        (("--compare", "/nowhere", "/neither"), "cannot read /nowhere"),
        (("--server", "http://127.0.0.1:1"), "cannot reach http://127.0.0.1:1"),
        (("--rate", "5", "--clients", "3"), "cannot be used with"),
    ],
)
def test_invalid_bench_options_print_one_line(options, message):
    result = bench(*options)
    assert result.returncode in (1, 2) and result.stdout == ""
    assert message in result.stderr and result.stderr.count("\n") == 1
