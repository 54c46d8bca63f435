"""Traces as a collector receives them, and the behaviour without a working collector."""

import signal
import socket

import grpc
import pytest
import requests
from collector import TIMEOUT_S, FAST_EXPORT, GrpcCollector, HttpCollector, attributes

QUESTION = "how many circles are in the picture?"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "shop=cart"}
SERVER, CLIENT = 2, 3


def ask_by_grpc(server, image):
    """Asks a question with a trace context."""
    server.connect(headers=PARENT.items()).outcomes([(image, [QUESTION])])


def ask_by_http(server, image):
    """Asks a question with a trace context."""
    inputs = {"texts": [[QUESTION]], "images": [{"url": image}]}
    requests.post(
        f"{server.http}/v1/ask", json={"inputs": inputs}, headers=PARENT, timeout=TIMEOUT_S
    ).raise_for_status()


def trace_of(collector, trace=TRACE, server_spans=1):
    """Returns (spans by name, linked batch spans) of a trace, once it is complete."""

    def linked(spans):
        return {link for span in spans if span.trace == trace for link in span.links}

    def is_complete(spans):
        servers = [span for span in spans if span.trace == trace and span.kind == SERVER]
        return len(servers) == server_spans and linked(spans) <= {(span.trace, span.id) for span in spans}

    spans = collector.until(is_complete)
    by_name = {}
    for span in spans:
        if span.trace == trace:
            by_name.setdefault(span.name, []).append(span)
    return by_name, [span for span in spans if (span.trace, span.id) in linked(spans)]


@pytest.mark.parametrize(
    "ask, name, attributes_of_root",
    [
        (
            ask_by_grpc,
            "blip.v1.BlipService/Ask",
            {
                "rpc.system": "grpc",
                "rpc.service": "blip.v1.BlipService",
                "rpc.method": "Ask",
                "rpc.grpc.status_code": 0,
            },
        ),
        (
            ask_by_http,
            "POST /v1/ask",
            {
                "http.request.method": "POST",
                "http.route": "/v1/ask",
                "url.path": "/v1/ask",
                "http.response.status_code": 200,
            },
        ),
    ],
)
def test_trace_contains_stages_batch_and_client_span(
    fetching, web, either_collector, ask, name, attributes_of_root
):
    collector = either_collector
    server = fetching(
        "--otlp-endpoint", collector.url, "--otlp-protocol", collector.protocol, environment=FAST_EXPORT
    )
    ask(server, web.url("image"))
    spans, (batch,) = trace_of(collector)
    assert {span_name: len(each) for span_name, each in spans.items()} == {
        name: 1,
        "fetch": 1,
        "preprocess": 1,
        "image_decode": 1,
        "image_scale": 1,
        "pair": 1,
        "queue": 1,
        "vision": 1,
        "text": 1,
        "decode": 1,
        "write": 1,
    }
    (root,), (pair,), (fetch,) = spans[name], spans["pair"], spans["fetch"]
    assert root.parent == CALLER and root.state == "shop=cart"
    assert attributes_of_root.items() <= root.attributes.items()
    assert {child.parent for child in (pair, fetch, *spans["preprocess"], *spans["write"])} == {root.id}
    assert {part.parent for part in (*spans["image_decode"], *spans["image_scale"])} == {
        spans["preprocess"][0].id
    }
    stages = [spans[stage][0] for stage in ("queue", "vision", "text", "decode")]
    assert {stage.parent for stage in stages} == {pair.id}
    ends = [(span.start, span.end) for span in (fetch, *spans["preprocess"], *stages)]
    assert all(start <= end for start, end in ends)
    assert all(end <= start for (_, end), (start, _) in zip(ends[2:], ends[3:]))
    assert batch.name == "batch" and batch.trace != TRACE and batch.parent == ""
    assert batch.links == [(TRACE, pair.id)] and pair.links == [(batch.trace, batch.id)]
    assert batch.attributes["blip.batch.questions"] == 1 and batch.attributes["blip.batch.decode_steps"] > 0
    assert fetch.kind == CLIENT and fetch.attributes["server.address"] == "127.0.0.1"
    assert web.headers[0]["traceparent"] == f"00-{TRACE}-{fetch.id}-01"
    assert web.headers[0]["tracestate"] == "shop=cart"
    assert attributes(collector.resources[0])["service.name"] == "blip-serve"


def test_ask_stream_records_one_span_per_request(start, collector, demo_image):
    server = start("--otlp-endpoint", collector.url, environment=FAST_EXPORT)
    client = server.connect(headers=PARENT.items())
    stream = client.method("blip.v1.BlipService", "AskStream")
    requests_sent = [client.request([(demo_image, [f"is number {n} there?"])]) for n in range(3)]
    assert len(list(stream(iter([*requests_sent, client.request([])])))) == 4
    spans, batches = trace_of(collector)
    (root,) = spans["blip.v1.BlipService/AskStream"]
    assert len(spans["request"]) == 4 and {span.parent for span in spans["request"]} == {root.id}
    assert {pair.parent for pair in spans["pair"]} < {span.id for span in spans["request"]}
    assert [span.attributes["error.type"] for span in spans["request"] if span.attributes] == [
        "EMPTY_REQUEST"
    ]
    assert sorted(link for batch in batches for link in batch.links) == sorted(
        (TRACE, pair.id) for pair in spans["pair"]
    )


def test_batch_span_links_items_of_different_clients(start, collector, demo_image):
    server = start(
        "--otlp-endpoint",
        collector.url,
        "--max-batch-delay-ms",
        "60000",
        "--max-batch-questions",
        "2",
        environment=FAST_EXPORT,
    )
    calls = []
    for n, trace in enumerate(("1" * 32, "2" * 32)):
        client = server.connect(headers=[("traceparent", f"00-{trace}-{CALLER}-01")])
        calls.append(client.ask([(demo_image, [f"is number {n} there?"])]))
    assert all(len(list(call)) == 1 for call in calls)
    _, (batch,) = trace_of(collector, "1" * 32)
    _, (again,) = trace_of(collector, "2" * 32)
    assert batch is again
    assert {trace for trace, _ in batch.links} == {"1" * 32, "2" * 32}


def test_failed_stage_span_has_error_reason(fetching, web, collector, demo_image):
    server = fetching("--otlp-endpoint", collector.url, environment=FAST_EXPORT)
    server.connect(headers=PARENT.items()).outcomes(
        [(web.url("missing"), [QUESTION]), (b"not an image", [QUESTION])]
    )
    spans, _ = trace_of(collector)
    assert [span.attributes["error.type"] for span in spans["fetch"]] == ["URL_BAD_STATUS"]
    assert [span.attributes["error.type"] for span in spans["preprocess"]] == ["IMAGE_FORMAT_UNKNOWN"]
    assert "pair" not in spans


def test_ratio_0_records_sampled_clients_but_no_probes(start, collector, demo_image):
    server = start("--otlp-endpoint", collector.url, "--trace-sample-ratio", "0", environment=FAST_EXPORT)
    server.client.outcomes([(demo_image, [QUESTION])])
    server.client.health()
    ask_by_grpc(server, demo_image)
    trace_of(collector)
    assert {span.trace for span in collector.spans if span.name != "batch"} == {TRACE}


def test_trace_propagation_off_sends_no_traceparent(fetching, web, collector):
    server = fetching("--otlp-endpoint", collector.url, "--trace-propagation=false", environment=FAST_EXPORT)
    ask_by_grpc(server, web.url("image"))
    trace_of(collector)
    assert web.paths == ["/image"] and "traceparent" not in web.headers[0]


def test_otel_variables_configure_collector_and_service(start, either_collector, demo_image):
    collector = either_collector
    environment = {
        **FAST_EXPORT,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": collector.protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=shop",
        "OTEL_SERVICE_NAME": "vqa",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    ask_by_grpc(start(environment=environment), demo_image)
    trace_of(collector)
    resource = attributes(collector.resources[0])
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("vqa", "test")
    assert ("x-team", "shop") in collector.metadata


def closed_port_url():
    """Returns the URL of a port on which nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


@pytest.mark.parametrize("protocol", [GrpcCollector, HttpCollector], ids=lambda kind: kind.protocol)
@pytest.mark.parametrize("kind", ["closed", "silent", "hanging"])
def test_unavailable_collector_does_not_affect_answers(start, demo_image, kind, protocol, tmp_path):
    """Nothing listens (closed), no HTTP response (silent), or no call is answered (hanging)."""
    hanging, silent = protocol(hangs=True), socket.create_server(("127.0.0.1", 0))
    endpoint = {
        "closed": closed_port_url(),
        "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
        "hanging": hanging.url,
    }[kind]
    log = tmp_path / "log"
    server = start(
        "--otlp-endpoint", endpoint, "--otlp-protocol", protocol.protocol, environment=FAST_EXPORT, log=log
    )
    # There are more spans than the export queue holds.
    questions = [f"is number {n} there?" for n in range(500)]
    for _ in range(3):
        outcomes = server.client.outcomes([(demo_image, questions)])
        assert all(hasattr(answer, "text") for answer in outcomes.values()) and len(outcomes) == 500
    if kind == "hanging":
        assert hanging.called.wait(TIMEOUT_S)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=TIMEOUT_S) == 0
    assert log.read_text().count("span export failed") <= 1
    hanging.stop()
    silent.close()


def test_drain_exports_last_spans(start, either_collector, demo_image):
    collector = either_collector
    # Without the drain, the server would export them after an hour.
    server = start(
        "--otlp-endpoint",
        collector.url,
        "--otlp-protocol",
        collector.protocol,
        environment={"OTEL_BSP_SCHEDULE_DELAY": "3600000"},
    )
    ask_by_grpc(server, demo_image)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=TIMEOUT_S) == 0
    spans, _ = trace_of(collector)
    assert len(spans["pair"]) == 1


def test_cancelled_call_is_recorded_until_cancellation(start, collector, demo_image):
    server = start("--otlp-endpoint", collector.url, "--max-batch-questions", "1", environment=FAST_EXPORT)
    call = server.connect(headers=PARENT.items()).ask(
        [(demo_image, [f"is number {n} there?" for n in range(1000)])]
    )
    next(call)
    call.cancel()
    spans = collector.until(lambda spans: any(span.trace == TRACE and span.kind == SERVER for span in spans))
    (root,) = [span for span in spans if span.kind == SERVER]
    assert root.attributes["rpc.grpc.status_code"] == grpc.StatusCode.CANCELLED.value[0]
    assert any(span.attributes.get("error.type") == "cancelled" for span in spans if span.name == "pair")
