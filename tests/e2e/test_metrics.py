"""Metrics, readiness, and the stage in which calls were cancelled."""

import re
import signal
import time
import urllib.error
import urllib.request

import h2.events
import raw_http2
from conftest import ROOT

QUESTION = "how many circles are there?"
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")


def get(url):
    """Returns (status, text)."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Metrics:
    """The samples of one scrape."""

    def __init__(self, server):
        status, self.text = get(f"{server.metrics}/metrics")
        assert status == 200
        lines = [line for line in self.text.splitlines() if line and not line.startswith("#")]
        self.samples = [SAMPLE.match(line).groups() for line in lines]

    def value(self, name, **labels):
        """Returns the sum of all samples with this name and these labels."""
        selected = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(
            float(value)
            for sample, text, value in self.samples
            if sample == name and selected <= set((text or "").split(","))
        )


def until(server, condition):
    """Scrapes until `condition` is true, because the server counts after the response."""
    for _ in range(10_000):
        metrics = Metrics(server)
        if condition(metrics):
            return metrics
    raise AssertionError(f"condition not met by\n{metrics.text}")


def test_calls_and_stages_are_counted(start, demo_image):
    # The self-test would be counted, too.
    server = start("--self-test-idle-s", "0")
    server.client.outcomes([(demo_image, [QUESTION, ""]), (b"not an image", [QUESTION])])
    server.client.failed_call([])
    labels = {"protocol": "grpc", "method": "Ask"}
    metrics = until(server, lambda metrics: metrics.value("blip_requests_total", **labels) == 2)
    assert metrics.value("blip_requests_total", **labels, code="OK") == 1
    assert metrics.value("blip_requests_total", **labels, code="INVALID_ARGUMENT") == 1
    assert metrics.value("blip_requests_in_flight", protocol="grpc") <= 1
    assert metrics.value("blip_pairs_refused_total", reason="QUESTION_EMPTY") == 1
    assert metrics.value("blip_pairs_refused_total", reason="IMAGE_FORMAT_UNKNOWN") == 1
    assert metrics.value("blip_jobs_answered_total") == 1
    for stage in (
        "fetch",
        "preprocess",
        "image_decode",
        "image_scale",
        "queue",
        "vision",
        "text",
        "decode",
        "total",
        "write",
    ):
        assert metrics.value("blip_stage_seconds_count", stage=stage) == 1, stage
    assert metrics.value("blip_image_features_total", source="encoder") == 1
    assert metrics.value("blip_ready") == 1
    assert metrics.value("blip_model_info", model="demo", device="cpu") == 1
    assert metrics.value("blip_connections") >= 1
    assert metrics.value("process_resident_memory_bytes") > 0
    # The kernel counts pages in batches.
    assert metrics.value("blip_resident_memory_peak_bytes") > 0.9 * metrics.value(
        "process_resident_memory_bytes"
    )
    assert (
        metrics.value("blip_allocator_committed_peak_bytes")
        >= metrics.value("blip_allocator_committed_bytes")
        > 0
    )


def test_idle_server_runs_self_test_and_reports_queue_limit(start):
    server = start("--self-test-idle-s", "1", "--max-queued-questions", "99")
    metrics = until(server, lambda metrics: metrics.value("blip_canary_total", result="passed") >= 1)
    assert (
        metrics.value("blip_canary_total", result="wrong")
        == metrics.value("blip_canary_total", result="failed")
        == 0
    )
    assert metrics.value("blip_queue_limit_jobs") == 99
    assert metrics.value("blip_queue_waiting") == 0
    assert metrics.value("blip_ready") == 1


def test_metrics_equal_documented_names_and_kinds(start, demo_image):
    declared = dict(
        re.findall(
            r"^\| `(blip_\w+)` \| (\w+) \|", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE
        )
    )
    server = start()
    server.client.outcomes([(demo_image, [QUESTION])])
    metrics = Metrics(server)
    kinds = dict(re.findall(r"^# TYPE (blip_\w+) (\w+)$", metrics.text, re.MULTILINE))
    assert kinds.items() <= declared.items()
    described = set(re.findall(r"^# HELP (blip_\w+) \S", metrics.text, re.MULTILINE))
    assert kinds.keys() <= described


def test_unread_answers_are_not_written(start, demo_image):
    server = start("--self-test-idle-s", "0", "--max-batch-questions", "1")
    questions = [f"is number {number} there?" for number in range(100)]
    client = raw_http2.Connection(server.address)
    client.close_windows()
    request = server.client.request([(demo_image, questions)])
    stream = client.ask(raw_http2.grpc_message(request.SerializeToString()))
    client.read_until(h2.events.ResponseReceived, stream)
    until(server, lambda metrics: metrics.value("blip_jobs_answered_total") == len(questions))
    assert client.answers_ping()
    # HTTP buffers the first responses and requests no more.
    assert Metrics(server).value("blip_stage_seconds_count", stage="write") < len(questions) / 2
    client.open_window(stream)
    until(server, lambda metrics: metrics.value("blip_stage_seconds_count", stage="write") == len(questions))
    client.close()


def test_cancelled_calls_are_counted_by_stage(fetching, web, demo_image):
    server = fetching("--max-batch-questions", "1")
    call = server.client.ask([(web.url("idle"), [QUESTION])])
    until(server, lambda _: web.paths)
    call.cancel()
    until(server, lambda metrics: metrics.value("blip_inputs_cancelled_total", stage="fetch") == 1)
    queued = server.client.ask([(demo_image, [f"is {number} there?" for number in range(1000)])])
    next(queued)
    queued.cancel()
    until(server, lambda metrics: metrics.value("blip_jobs_cancelled_total", stage="queued") > 0)
    until(server, lambda metrics: metrics.value("blip_requests_total", method="Ask", code="CANCELLED") == 2)
    until(server, lambda metrics: metrics.value("blip_queue_jobs") == 0)


def test_drain_ends_readiness_before_liveness(start):
    server = start("--drain-grace-s", "600")
    for path in ("livez", "readyz", "healthz"):
        assert get(f"{server.metrics}/{path}")[0] == 200
    server.process.send_signal(signal.SIGTERM)
    until(server, lambda metrics: metrics.value("blip_ready") == 0)
    assert get(f"{server.metrics}/readyz")[0] == 503
    assert get(f"{server.metrics}/livez")[0] == get(f"{server.metrics}/healthz")[0] == 200


def test_image_caches_report_size_hits_and_evictions(start, demo_image):
    # The cache holds the features of one image.
    server = start(
        "--self-test-idle-s",
        "0",
        "--feature-cache-bytes",
        "1",
        "--max-batch-images",
        "1",
        "--max-batch-questions",
        "1",
    )
    server.client.outcomes([(demo_image, [QUESTION])])
    first = until(server, lambda metrics: metrics.value("blip_image_features_bytes") > 0)
    server.client.outcomes([(demo_image, ["what colour is it?"])])
    # The same pixels in another file.
    server.client.outcomes([(demo_image + b"!", [QUESTION])])
    metrics = until(server, lambda metrics: metrics.value("blip_image_features_evicted_total") == 1)
    assert metrics.value("blip_image_features_bytes") == first.value("blip_image_features_bytes")
    assert metrics.value("blip_image_pixels_total", source="cache") == 1
    assert metrics.value("blip_image_pixels_total", source="decoder") == 2
    assert metrics.value("blip_image_pixels_bytes") > first.value("blip_image_pixels_bytes") > 0


def test_cached_answers_use_neither_decoder_nor_engine(start, demo_image):
    server = start("--self-test-idle-s", "0", "--preprocess-cache-bytes", "0", cache_answers=True)
    for _ in range(3):
        server.client.outcomes([(demo_image, [QUESTION])])
    metrics = until(server, lambda metrics: metrics.value("blip_stage_seconds_count", stage="write") == 3)
    for stage in ("preprocess", "queue", "decode", "total"):
        assert metrics.value("blip_stage_seconds_count", stage=stage) == 3, stage
    assert metrics.value("blip_answer_cache_lookups_total", model="demo", result="hit") == 2
    assert metrics.value("blip_answer_cache_lookups_total", model="demo", result="miss") == 1
    assert metrics.value("blip_answer_cache_answers") == 1
    assert 0 < metrics.value("blip_answer_cache_bytes") < 1000
    assert metrics.value("blip_jobs_answered_total") == 1
    assert metrics.value("blip_image_pixels_total", source="decoder") == 1
    assert metrics.value("blip_image_features_total", source="encoder") == 1
    assert metrics.value("blip_image_features_total", source="cache") == 0


def test_drain_reports_its_deadline(start):
    server = start("--drain-grace-s", "600", "--drain-limit-s", "300")
    deadline = "blip_drain_deadline_timestamp_seconds"
    assert deadline not in Metrics(server).text
    before = time.time()
    server.process.send_signal(signal.SIGTERM)
    value = until(server, lambda metrics: metrics.value(deadline)).value(deadline)
    assert before + 900 <= value <= time.time() + 900


def test_device_memory_metrics_are_missing_without_gpu(demo, demo_image):
    demo.client.outcomes([(demo_image, [QUESTION])])
    assert "device_memory" not in Metrics(demo).text


def test_probe_over_http2_is_answered(demo):
    # Load balancers probe in this way, because their servers speak HTTP/2.
    connection = raw_http2.Connection(demo.metrics.removeprefix("http://"))
    stream = connection.request("GET", "/readyz")
    headers = dict(connection.read_until(h2.events.ResponseReceived, stream).headers)
    assert headers[b":status"] == b"200"
    connection.close()
