"""Log lines, request ids, and the secrets that logs and spans never contain."""

import base64
import contextlib
import json
import re
import socket

import grpc
import pytest
import raw_http2
import requests
from collector import TIMEOUT_S, FAST_EXPORT
from test_http import payload_of
from test_metrics import until

QUESTION = "how many circles are in the picture?"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")
UUID_7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


def until_logged(server, log, condition):
    """Waits until `condition` is true for the log, because lines are written after the response."""
    until(server, lambda _: condition(log.read_text()))
    return log.read_text()


def ask(server, demo_image, headers=(), question=QUESTION):
    """Asks by gRPC. Returns the request id in the metadata."""
    request = server.client.request([(demo_image, [question])] if demo_image else [])
    call = server.client.method("blip.v1.BlipService", "Ask")(request, metadata=list(headers))
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        pass
    # A call that is rejected on arrival has only trailers.
    return {**dict(call.trailing_metadata()), **dict(call.initial_metadata())}.get("x-request-id")


def test_response_has_client_request_id_or_new_one(demo, demo_image):
    for request_id in ("shop-7/cart!", "x" * 128):
        assert ask(demo, demo_image, [("x-request-id", request_id)]) == request_id
        # Errors have it, too.
        assert ask(demo, None, [("x-request-id", request_id)]) == request_id
        response = requests.post(
            f"{demo.http}/v1/ask",
            json=payload_of(demo_image, QUESTION),
            headers={"x-request-id": request_id},
            timeout=TIMEOUT_S,
        )
        assert response.status_code == 200 and response.headers["x-request-id"] == request_id
    for bad in ("two words", "x" * 129, ""):
        assert UUID_7.match(ask(demo, demo_image, [("x-request-id", bad)])), bad
    assert UUID_7.match(ask(demo, demo_image))
    unknown = requests.get(f"{demo.http}/nowhere", timeout=TIMEOUT_S)
    assert UUID_7.match(unknown.headers["x-request-id"])
    preflight = {"origin": "https://example.org", "access-control-request-method": "POST"}
    assert UUID_7.match(
        requests.options(f"{demo.http}/v1/ask", headers=preflight, timeout=TIMEOUT_S).headers["x-request-id"]
    )


def test_error_contains_request_id(demo, demo_image):
    client = demo.connect(headers=[("x-request-id", "shop-7")])
    with pytest.raises(grpc.RpcError) as raised:
        list(client.ask([]))
    status = client.type("google.rpc.Status").FromString(
        dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
    )
    (info,) = [detail for detail in status.details if detail.type_url.endswith("google.rpc.RequestInfo")]
    assert client.type("google.rpc.RequestInfo").FromString(info.value).request_id == "shop-7"
    problem = requests.post(
        f"{demo.http}/v1/ask", json={}, headers={"x-request-id": "shop-8"}, timeout=TIMEOUT_S
    )
    assert problem.status_code == 400 and problem.json()["request_id"] == "shop-8"
    assert (
        "request_id"
        not in requests.post(
            f"{demo.http}/v1/ask", json=payload_of(demo_image, QUESTION), timeout=TIMEOUT_S
        ).json()
    )


def test_json_log_has_request_and_trace_ids(start, demo_image, tmp_path):
    log = tmp_path / "log"
    server = start("--log", "info", "--log-format", "json", log=log)
    ask(server, demo_image, [("x-request-id", "shop-1"), PARENT])
    ask(server, None, [("x-request-id", "shop-2")])
    requests.post(
        f"{server.http}/v1/ask",
        json=payload_of(demo_image, QUESTION),
        headers={"x-request-id": "shop-3"},
        timeout=TIMEOUT_S,
    )
    text = until_logged(server, log, lambda text: all(f"shop-{n}" in text for n in (1, 2, 3)))
    ended = {
        line["span"]["request_id"]: line
        for line in map(json.loads, text.splitlines())
        if line["message"] == "request ended"
    }
    lines = {
        name: (line["request"], line["status"], line["level"])
        for name, line in ended.items()
        if name.startswith("shop")
    }
    assert lines == {
        "shop-1": ("Ask", "OK", "INFO"),
        "shop-2": ("Ask", "INVALID_ARGUMENT", "INFO"),
        "shop-3": ("POST /v1/ask", "200", "INFO"),
    }
    assert ended["shop-1"]["span"]["trace_id"] == TRACE and "trace_id" not in ended["shop-2"]["span"]
    assert all(line["ms"] > 0 for line in ended.values())


def test_mistake_of_client_is_logged_as_information(start, tmp_path):
    log = tmp_path / "log"
    server = start("--log", "info", log=log)
    ask_raw = server.client.channel.unary_stream("/blip.v1.BlipService/Ask", request_serializer=bytes)
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
        list(ask_raw(b"\xff no message", metadata=[("x-request-id", "shop-9"), PARENT]))
    text = until_logged(server, log, lambda text: "shop-9" in text)
    (line,) = (line for line in text.splitlines() if "shop-9" in line)
    assert " INFO " in line and "INVALID_ARGUMENT" in line and "requests failed" not in text


def log_filter(server, value=None, **headers):
    """Reads the log filter, or sets it. Returns status and body."""
    url = f"{server.metrics}/log-filter"
    if value is None:
        response = requests.get(url, timeout=TIMEOUT_S)
    else:
        response = requests.put(url, data=value, headers=headers, timeout=TIMEOUT_S)
    return response.status_code, response.text


def test_log_filter_changes_at_run_time(start, demo_image, tmp_path):
    log = tmp_path / "log"
    server = start(log=log)
    assert log_filter(server) == (200, "bulk=info,hub=info,warn\n")
    ask(server, demo_image, [("x-request-id", "before")])
    assert log_filter(server, "warn,blip_serve=info") == (200, "blip_serve=info,warn\n")
    ask(server, demo_image, [("x-request-id", "meanwhile")])
    until_logged(server, log, lambda text: "meanwhile" in text)
    status, text = log_filter(server, "blip_serve=loud")
    assert status == 400 and 'invalid log filter "blip_serve=loud": ' in text
    assert log_filter(server, "")[0] == 400
    status, text = log_filter(server, "error", **{"x-forwarded-for": "10.1.2.3"})
    assert status == 403 and "this machine" in text
    assert log_filter(server, "x" * 5000)[0] == 413
    assert log_filter(server) == (200, "blip_serve=info,warn\n")
    assert log_filter(server, "warn")[0] == 200
    ask(server, demo_image, [("x-request-id", "after")])
    text = log.read_text()
    assert "before" not in re.sub("before=", "", text) and "after" not in re.sub("after=", "", text)


KEY, GUESS = "correct-horse-battery-staple", "wrong-horse-battery-staple"
COLLECTOR_KEY = "collector-key-of-the-shop"
SIGNED = "signature-of-the-shop"


def send_all_requests(server, web, demo_image):
    """Sends requests by every protocol, valid and invalid ones, each with secret content."""
    client = server.connect(headers=[("x-api-key", KEY)])
    inputs = [
        (demo_image, [QUESTION, "z " * 3000]),
        (web.url(f"image?{SIGNED}"), [QUESTION]),
        (b"not an image " + QUESTION.encode(), [QUESTION]),
        ("data:image/png;base64," + base64.b64encode(demo_image).decode(), [QUESTION]),
    ]
    client.outcomes(inputs)
    stream = client.method("blip.v1.BlipService", "AskStream")
    assert len(list(stream(iter([client.request(inputs[:1])])))) == 2
    with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
        ask_method = client.method("blip.v1.BlipService", "Ask")
        list(ask_method(client.request(inputs), metadata=[("authorization", f"Bearer {GUESS}")]))
    url = f"{server.http}/v1/ask"
    for token in (KEY, GUESS):
        card = {
            "inputs": {"texts": [[QUESTION]], "images": [{"url": web.url(f"image?{SIGNED}")}]},
            "secret_token": token,
        }
        requests.post(url, json=card, timeout=TIMEOUT_S)
        requests.post(
            url,
            json=payload_of(demo_image, QUESTION),
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
        )
        form = {"questions": json.dumps([QUESTION])}
        requests.post(
            url, files={"image": demo_image}, data=form, headers={"x-api-key": token}, timeout=TIMEOUT_S
        )
    requests.post(
        url,
        data='{"inputs": ' + QUESTION,
        headers={"x-api-key": KEY, "content-type": "application/json"},
        timeout=TIMEOUT_S,
    )
    requests.get(f"{server.http}/{SIGNED}?{SIGNED}", timeout=TIMEOUT_S)


def secrets(demo_image):
    """Yields the secrets, and the forms in which they could be written."""
    yield from (KEY, GUESS, COLLECTOR_KEY, SIGNED, QUESTION, "circles")
    yield "z z z z"
    for part in (demo_image[:12], demo_image[100:112], demo_image[-40:-28]):
        yield base64.b64encode(part).decode()
        yield ", ".join(map(str, part))
        yield str(part)[2:-1]
        yield part.hex()


@pytest.mark.parametrize("level", ["info", "trace"])
def test_logs_and_spans_contain_no_keys_texts_or_images(
    fetching, web, collector, demo_image, tmp_path, level
):
    log = tmp_path / "log"
    environment = {
        **FAST_EXPORT,
        "BLIP_SERVE__AUTH__KEYS": KEY,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {COLLECTOR_KEY}",
    }
    server = fetching(
        "--log", level, "--otlp-endpoint", collector.url, environment=environment, log=log, connect=False
    )
    send_all_requests(server, web, demo_image)
    collector.until(lambda spans: sum(span.kind == 2 for span in spans) == 10)
    assert ("authorization", f"Bearer {COLLECTOR_KEY}") in collector.metadata
    text = log.read_text(errors="backslashreplace")
    assert len(text) > 1000
    spans = "".join(span.text for span in collector.spans)
    for secret in secrets(demo_image):
        for name, content in (("log", text), ("spans", spans)):
            position = content.find(secret)
            assert position < 0, f"{name}: {content[max(0, position - 200) : position + 200]}"


def test_log_content_option_logs_texts(start, demo_image, tmp_path):
    log = tmp_path / "log"
    server = start("--log", "info", "--log-content", log=log)
    answer = server.client.outcomes([(demo_image, [QUESTION])])[0, 0]
    text = until_logged(server, log, lambda text: "answered" in text)
    text = re.sub("\x1b\\[[0-9]*m", "", text)
    assert QUESTION.rstrip("?") in text and f'answer="{answer.text}"' in text


def only_connection(server):
    """Opens the only allowed connection. Waits until the previous one is released."""
    for _ in range(10_000):
        with contextlib.suppress(ConnectionError):
            connection = raw_http2.Connection(server.address)
            if not connection.closed:
                return connection.socket
            connection.close()
    raise AssertionError("the server never accepted a connection")


def test_many_rejected_connections_write_few_log_lines(start, tmp_path):
    log = tmp_path / "log"
    server = start("--max-connections", "1", log=log)
    host, port = server.address.rsplit(":", 1)
    with only_connection(server):
        for _ in range(1000):
            socket.create_connection((host, int(port)), timeout=TIMEOUT_S).close()
        metrics = until(
            server, lambda metrics: metrics.value("blip_connections_refused_total", reason="too_many") >= 1000
        )
    lines = [line for line in log.read_text().splitlines() if "connection limit reached" in line]
    assert 1 <= len(lines) <= metrics.value("blip_connections_refused_total", reason="too_many") / 10
