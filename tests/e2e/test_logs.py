"""What the log says, how, and what it never says."""

import base64
import contextlib
import json
import re
import socket

import grpc
import pytest
import raw_http2
import requests
from collector import PATIENCE_S, SOON
from test_http import by_bytes
from test_metrics import until

QUESTION = "how many circles are in the picture?"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")
UUID_7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


def until_logged(server, log, condition):
    """A request is told of a little after it was answered: reads the log until it shows."""
    until(server, lambda _: condition(log.read_text()))
    return log.read_text()


def ask(server, picture, headers=(), question=QUESTION):
    """Asks by gRPC, and gives the id in the initial metadata."""
    request = server.client.request([(picture, [question])] if picture else [])
    call = server.client.method("blip.v1.BlipService", "Ask")(request, metadata=list(headers))
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        pass
    # What is refused at once has trailers only.
    return {**dict(call.trailing_metadata()), **dict(call.initial_metadata())}.get("x-request-id")


def test_a_request_has_its_callers_id_or_a_fresh_one_in_its_response(demo, picture):
    for given in ("shop-7/cart!", "x" * 128):
        assert ask(demo, picture, [("x-request-id", given)]) == given
        # Refusals have it, too.
        assert ask(demo, None, [("x-request-id", given)]) == given
        answered = requests.post(f"{demo.http}/v1/ask", json=by_bytes(picture, QUESTION), headers={"x-request-id": given}, timeout=PATIENCE_S)
        assert answered.status_code == 200 and answered.headers["x-request-id"] == given
    for bad in ("two words", "x" * 129, ""):
        assert UUID_7.match(ask(demo, picture, [("x-request-id", bad)])), bad
    assert UUID_7.match(ask(demo, picture))
    unknown = requests.get(f"{demo.http}/nowhere", timeout=PATIENCE_S)
    assert UUID_7.match(unknown.headers["x-request-id"])
    preflight = {"origin": "https://example.org", "access-control-request-method": "POST"}
    assert UUID_7.match(requests.options(f"{demo.http}/v1/ask", headers=preflight, timeout=PATIENCE_S).headers["x-request-id"])


def test_an_error_names_its_request(demo, picture):
    client = demo.connect(headers=[("x-request-id", "shop-7")])
    with pytest.raises(grpc.RpcError) as refused:
        list(client.ask([]))
    status = client.type("google.rpc.Status").FromString(dict(refused.value.trailing_metadata())["grpc-status-details-bin"])
    (info,) = [detail for detail in status.details if detail.type_url.endswith("google.rpc.RequestInfo")]
    assert client.type("google.rpc.RequestInfo").FromString(info.value).request_id == "shop-7"
    problem = requests.post(f"{demo.http}/v1/ask", json={}, headers={"x-request-id": "shop-8"}, timeout=PATIENCE_S)
    assert problem.status_code == 400 and problem.json()["request_id"] == "shop-8"
    assert "request_id" not in requests.post(f"{demo.http}/v1/ask", json=by_bytes(picture, QUESTION), timeout=PATIENCE_S).json()


def test_a_json_log_is_an_object_a_line_and_names_request_and_trace(start, picture, tmp_path):
    log = tmp_path / "log"
    server = start("--log", "info", "--log-format", "json", log=log)
    ask(server, picture, [("x-request-id", "shop-1"), PARENT])
    ask(server, None, [("x-request-id", "shop-2")])
    requests.post(f"{server.http}/v1/ask", json=by_bytes(picture, QUESTION), headers={"x-request-id": "shop-3"}, timeout=PATIENCE_S)
    text = until_logged(server, log, lambda text: all(f"shop-{n}" in text for n in (1, 2, 3)))
    ended = {line["span"]["request_id"]: line for line in map(json.loads, text.splitlines()) if line["message"] == "request ended"}
    told = {name: (line["request"], line["status"], line["level"]) for name, line in ended.items() if name.startswith("shop")}
    assert told == {
        "shop-1": ("Ask", "OK", "INFO"),
        "shop-2": ("Ask", "INVALID_ARGUMENT", "INFO"),
        "shop-3": ("POST /v1/ask", "200", "INFO"),
    }
    assert ended["shop-1"]["span"]["trace_id"] == TRACE and "trace_id" not in ended["shop-2"]["span"]
    assert all(line["ms"] > 0 for line in ended.values())


def test_a_failure_is_warned_of_with_its_request_whatever_else_is_logged(start, tmp_path):
    log = tmp_path / "log"
    server = start(log=log)
    asking = server.client.channel.unary_stream("/blip.v1.BlipService/Ask", request_serializer=bytes)
    with pytest.raises(grpc.RpcError, match="INTERNAL"):
        list(asking(b"\xff no message", metadata=[("x-request-id", "shop-9"), PARENT]))
    (line,) = until_logged(server, log, lambda text: "shop-9" in text).splitlines()
    assert " WARN " in line and "requests failed" in line and "request=Ask status=INTERNAL" in line


def filter_of(server, wanted=None, **headers):
    url = f"{server.metrics}/log-filter"
    answer = requests.get(url, timeout=PATIENCE_S) if wanted is None else requests.put(url, data=wanted, headers=headers, timeout=PATIENCE_S)
    return answer.status_code, answer.text


def test_the_filter_changes_while_the_server_runs(start, picture, tmp_path):
    log = tmp_path / "log"
    server = start(log=log)
    assert filter_of(server) == (200, "bulk=info,hub=info,warn\n")
    ask(server, picture, [("x-request-id", "before")])
    assert filter_of(server, "warn,blip_serve=info") == (200, "blip_serve=info,warn\n")
    ask(server, picture, [("x-request-id", "meanwhile")])
    until_logged(server, log, lambda text: "meanwhile" in text)
    status, text = filter_of(server, "blip_serve=loud")
    assert status == 400 and '"blip_serve=loud" is no log filter' in text
    assert filter_of(server, "")[0] == 400
    status, text = filter_of(server, "error", **{"x-forwarded-for": "10.1.2.3"})
    assert status == 403 and "this machine" in text
    assert filter_of(server, "x" * 5000)[0] == 413
    assert filter_of(server) == (200, "blip_serve=info,warn\n")
    assert filter_of(server, "warn")[0] == 200
    ask(server, picture, [("x-request-id", "after")])
    text = log.read_text()
    assert "before" not in re.sub("before=", "", text) and "after" not in re.sub("after=", "", text)


KEY, GUESS = "correct-horse-battery-staple", "wrong-horse-battery-staple"
COLLECTOR_KEY = "collector-key-of-the-shop"
SIGNED = "signature-of-the-shop"


def everything(server, web, picture):
    """Every way in, with answers and refusals, each with something that nobody else may see."""
    client = server.connect(headers=[("x-api-key", KEY)])
    inputs = [(picture, [QUESTION, "z " * 3000]), (web.url(f"picture?{SIGNED}"), [QUESTION]), (b"no image " + QUESTION.encode(), [QUESTION]),
              ("data:image/png;base64," + base64.b64encode(picture).decode(), [QUESTION])]
    client.outcomes(inputs)
    stream = client.method("blip.v1.BlipService", "AskStream")
    assert len(list(stream(iter([client.request(inputs[:1])])))) == 2
    with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
        asking = client.method("blip.v1.BlipService", "Ask")
        list(asking(client.request(inputs), metadata=[("authorization", f"Bearer {GUESS}")]))
    url = f"{server.http}/v1/ask"
    for token in (KEY, GUESS):
        card = {"inputs": {"texts": [[QUESTION]], "images": [{"url": web.url(f"picture?{SIGNED}")}]}, "secret_token": token}
        requests.post(url, json=card, timeout=PATIENCE_S)
        requests.post(url, json=by_bytes(picture, QUESTION), headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE_S)
        form = {"questions": json.dumps([QUESTION])}
        requests.post(url, files={"image": picture}, data=form, headers={"x-api-key": token}, timeout=PATIENCE_S)
    requests.post(url, data='{"inputs": ' + QUESTION, headers={"x-api-key": KEY, "content-type": "application/json"}, timeout=PATIENCE_S)
    requests.get(f"{server.http}/{SIGNED}?{SIGNED}", timeout=PATIENCE_S)


def secrets(picture):
    """What must not be found, and how it could be written."""
    yield from (KEY, GUESS, COLLECTOR_KEY, SIGNED, QUESTION, "circles")
    yield "z z z z"
    for part in (picture[:12], picture[100:112], picture[-40:-28]):
        yield base64.b64encode(part).decode()
        yield ", ".join(map(str, part))
        yield str(part)[2:-1]
        yield part.hex()


@pytest.mark.parametrize("level", ["info", "trace"])
def test_neither_log_nor_spans_hold_keys_questions_or_images(fetching, web, collector, picture, tmp_path, level):
    log = tmp_path / "log"
    environment = {**SOON, "BLIP_SERVE__AUTH__KEYS": KEY, "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {COLLECTOR_KEY}"}
    server = fetching("--log", level, "--otlp-endpoint", collector.url, environment=environment, log=log, connect=False)
    everything(server, web, picture)
    collector.until(lambda spans: sum(span.kind == 2 for span in spans) == 10)
    assert ("authorization", f"Bearer {COLLECTOR_KEY}") in collector.metadata
    text = log.read_text(errors="backslashreplace")
    assert len(text) > 1000
    spans = "".join(span.text for span in collector.spans)
    for secret in secrets(picture):
        for place, found in (("log", text), ("spans", spans)):
            where = found.find(secret)
            assert where < 0, f"{place}: {found[max(0, where - 200):where + 200]}"


def test_content_is_logged_where_that_was_asked_for(start, picture, tmp_path):
    log = tmp_path / "log"
    server = start("--log", "info", "--log-content", log=log)
    answer = server.client.outcomes([(picture, [QUESTION])])[0, 0]
    text = until_logged(server, log, lambda text: "answered" in text)
    assert "how many circles are in the picture" in text and f'answer="{answer.text}"' in re.sub("\x1b\\[[0-9]*m", "", text)


def only_connection(server):
    """A connection that is held where there may be but one: asked for until whoever had it before has let go."""
    for _ in range(10_000):
        with contextlib.suppress(ConnectionError):
            connection = raw_http2.Connection(server.address)
            if not connection.closed:
                return connection.socket
            connection.close()
    raise AssertionError("the server never took a connection")


def test_a_flood_of_connections_is_not_one_of_log_lines(start, tmp_path):
    log = tmp_path / "log"
    server = start("--max-connections", "1", log=log)
    host, port = server.address.rsplit(":", 1)
    with only_connection(server):
        for _ in range(1000):
            socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
        metrics = until(server, lambda metrics: metrics.value("blip_connections_refused_total", reason="too_many") >= 1000)
    lines = [line for line in log.read_text().splitlines() if "there are too many" in line]
    assert 1 <= len(lines) <= metrics.value("blip_connections_refused_total", reason="too_many") / 10
