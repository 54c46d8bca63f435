"""What those who watch are told: metrics, readiness, and where callers left."""

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
    """(status, text)."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Metrics:
    """One scrape."""

    def __init__(self, server):
        status, self.text = get(f"{server.metrics}/metrics")
        assert status == 200
        lines = [line for line in self.text.splitlines() if line and not line.startswith("#")]
        self.samples = [SAMPLE.match(line).groups() for line in lines]

    def value(self, name, **labels):
        """The sum of all samples of this name whose labels hold these."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(float(value) for found, text, value in self.samples if found == name and wanted <= set((text or "").split(",")))


def until(server, condition):
    """A server may count a little after it has answered: scrapes until it shows."""
    for _ in range(10_000):
        metrics = Metrics(server)
        if condition(metrics):
            return metrics
    raise AssertionError(f"it never showed in\n{metrics.text}")


def test_every_call_is_counted_by_method_and_code_and_every_answer_by_its_stages(start, picture):
    # What it asks itself would be counted, too.
    server = start("--canary-idle-s", "0")
    server.client.outcomes([(picture, [QUESTION, ""]), (b"no image", [QUESTION])])
    server.client.refused_call([])
    asked = {"protocol": "grpc", "method": "Ask"}
    metrics = until(server, lambda metrics: metrics.value("blip_requests_total", **asked) == 2)
    assert metrics.value("blip_requests_total", **asked, code="OK") == 1
    assert metrics.value("blip_requests_total", **asked, code="INVALID_ARGUMENT") == 1
    assert metrics.value("blip_requests_in_flight", protocol="grpc") <= 1
    assert metrics.value("blip_pairs_refused_total", reason="QUESTION_EMPTY") == 1
    assert metrics.value("blip_pairs_refused_total", reason="IMAGE_FORMAT_UNKNOWN") == 1
    assert metrics.value("blip_jobs_answered_total") == 1
    for stage in ("fetch", "preprocess", "image_decode", "image_scale", "queue", "vision", "text", "decode", "total", "write"):
        assert metrics.value("blip_stage_seconds_count", stage=stage) == 1, stage
    assert metrics.value("blip_image_features_total", source="encoder") == 1
    assert metrics.value("blip_ready") == 1
    assert metrics.value("blip_model_info", model="demo", device="cpu") == 1
    assert metrics.value("blip_connections") >= 1
    assert metrics.value("process_resident_memory_bytes") > 0
    # The kernel counts pages in batches.
    assert metrics.value("blip_resident_memory_peak_bytes") > 0.9 * metrics.value("process_resident_memory_bytes")
    assert metrics.value("blip_allocator_committed_peak_bytes") >= metrics.value("blip_allocator_committed_bytes") > 0


def test_an_idle_server_asks_itself_a_question_and_shows_how_much_may_wait(start):
    server = start("--canary-idle-s", "1", "--max-queued-questions", "99")
    metrics = until(server, lambda metrics: metrics.value("blip_canary_total", result="passed") >= 1)
    assert metrics.value("blip_canary_total", result="wrong") == metrics.value("blip_canary_total", result="failed") == 0
    assert metrics.value("blip_queue_limit_jobs") == 99
    assert metrics.value("blip_queue_waiting") == 0
    assert metrics.value("blip_ready") == 1



def test_every_declared_metric_is_of_its_declared_kind_and_no_other_is_there(start, picture):
    declared = dict(re.findall(r"^\| `(blip_\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    server = start()
    server.client.outcomes([(picture, [QUESTION])])
    metrics = Metrics(server)
    given = dict(re.findall(r"^# TYPE (blip_\w+) (\w+)$", metrics.text, re.MULTILINE))
    assert given.items() <= declared.items()
    described = set(re.findall(r"^# HELP (blip_\w+) \S", metrics.text, re.MULTILINE))
    assert given.keys() <= described


def test_answers_are_written_as_their_caller_lets_them_be_sent(start, picture):
    server = start("--canary-idle-s", "0", "--max-batch-questions", "1")
    questions = [f"is number {number} there?" for number in range(100)]
    caller = raw_http2.Connection(server.address)
    caller.leave_no_room()
    request = server.client.request([(picture, questions)])
    stream = caller.ask(raw_http2.grpc_message(request.SerializeToString()))
    caller.read_until(h2.events.ResponseReceived, stream)
    until(server, lambda metrics: metrics.value("blip_jobs_answered_total") == len(questions))
    assert caller.answers_ping()
    # HTTP holds what was there when it first asked, and asks for no more.
    assert Metrics(server).value("blip_stage_seconds_count", stage="write") < len(questions) / 2
    caller.give_room(stream)
    until(server, lambda metrics: metrics.value("blip_stage_seconds_count", stage="write") == len(questions))
    caller.close()


def test_callers_who_hang_up_are_counted_where_they_were(fetching, web, picture):
    server = fetching("--max-batch-questions", "1")
    fetching = server.client.ask([(web.url("stuck"), [QUESTION])])
    until(server, lambda _: web.paths)
    fetching.cancel()
    until(server, lambda metrics: metrics.value("blip_inputs_cancelled_total", stage="fetch") == 1)
    queued = server.client.ask([(picture, [f"is {number} there?" for number in range(1000)])])
    next(queued)
    queued.cancel()
    until(server, lambda metrics: metrics.value("blip_jobs_cancelled_total", stage="queued") > 0)
    until(server, lambda metrics: metrics.value("blip_requests_total", method="Ask", code="CANCELLED") == 2)
    until(server, lambda metrics: metrics.value("blip_queue_jobs") == 0)


def test_readiness_is_told_apart_from_life_and_goes_first_in_a_drain(start):
    server = start("--drain-grace-s", "600")
    for path in ("livez", "readyz", "healthz"):
        assert get(f"{server.metrics}/{path}")[0] == 200
    server.process.send_signal(signal.SIGTERM)
    until(server, lambda metrics: metrics.value("blip_ready") == 0)
    assert get(f"{server.metrics}/readyz")[0] == 503
    assert get(f"{server.metrics}/livez")[0] == get(f"{server.metrics}/healthz")[0] == 200


def test_what_is_kept_of_images_and_what_gives_way_is_told(start, picture):
    # Room for the features of one image.
    server = start("--canary-idle-s", "0", "--feature-cache-bytes", "1", "--max-batch-images", "1", "--max-batch-questions", "1")
    server.client.outcomes([(picture, [QUESTION])])
    first = until(server, lambda metrics: metrics.value("blip_image_features_bytes") > 0)
    server.client.outcomes([(picture, ["what colour is it?"])])
    # The same pixels in another file.
    server.client.outcomes([(picture + b"!", [QUESTION])])
    metrics = until(server, lambda metrics: metrics.value("blip_image_features_evicted_total") == 1)
    assert metrics.value("blip_image_features_bytes") == first.value("blip_image_features_bytes")
    assert metrics.value("blip_image_pixels_total", source="cache") == 1
    assert metrics.value("blip_image_pixels_total", source="decoder") == 2
    assert metrics.value("blip_image_pixels_bytes") > first.value("blip_image_pixels_bytes") > 0


def test_answers_that_were_kept_count_as_answers_and_need_neither_decoder_nor_engine(start, picture):
    server = start("--canary-idle-s", "0", "--preprocess-cache-bytes", "0", keep_answers=True)
    for _ in range(3):
        server.client.outcomes([(picture, [QUESTION])])
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


def test_a_drain_tells_ahead_when_it_will_give_calls_up(start):
    server = start("--drain-grace-s", "600", "--drain-limit-s", "300")
    deadline = "blip_drain_deadline_timestamp_seconds"
    assert deadline not in Metrics(server).text
    before = time.time()
    server.process.send_signal(signal.SIGTERM)
    told = until(server, lambda metrics: metrics.value(deadline)).value(deadline)
    assert before + 900 <= told <= time.time() + 900


def test_no_gpus_memory_is_told_of_where_there_is_none(demo, picture):
    demo.client.outcomes([(picture, [QUESTION])])
    assert "device_memory" not in Metrics(demo).text
