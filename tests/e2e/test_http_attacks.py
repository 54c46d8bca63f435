"""Clients that send HTTP requests to exhaust the server or to reach it from a browser."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
import requests
from raw_http2 import Connection

MEGABYTE = 1 << 20
TIMEOUT_S = 60


def address_of(url):
    return url.removeprefix("http://")


def connect(url):
    host, port = address_of(url).rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def exchange(url, *pieces):
    """Sends pieces until the server refuses them. Returns its response."""
    response = b""
    with connect(url) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while received := connection.recv(1 << 16):
                response += received
        except ConnectionError:
            pass
    return response


def head(method, path, *headers):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "connection: close", *headers, "", ""]).encode()


def problem(response):
    """Returns the status and the problem document of a response."""
    status, body = response.split(b" ", 2)[1], response.split(b"\r\n\r\n", 1)[1]
    return int(status), json.loads(body)


def memory_bytes(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


def cpu_s(server):
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def unread(server, count, *request):
    """Returns a connection with responses that have begun, and that the server cannot send."""
    connection = Connection(address_of(server.http))
    connection.close_windows()
    streams = {connection.request(*request) for _ in range(count)}
    while not streams <= connection.answered.keys():
        assert not connection.closed
        connection.events()
    assert {headers[b":status"] for headers in connection.answered.values()} == {b"200"}
    return connection


def test_unread_files_occupy_no_memory(start):
    server = start()
    before = memory_bytes(server)
    connection = unread(server, 250, "GET", "/docs/swagger-ui-bundle.js")
    # The file has 1.6 MB.
    assert memory_bytes(server) - before < 50 * MEGABYTE
    connection.close()


def test_unread_embeddings_are_not_written(start):
    server = start("--model", "demo-match")
    texts = [f"a picture of {n} circles" for n in range(1000)]
    body = json.dumps({"inputs": {"texts": texts}}).encode()
    headers = {"content-type": "application/json"}
    whole = requests.post(f"{server.http}/v1/embed", data=body, headers=headers, timeout=TIMEOUT_S)
    assert len(whole.json()["texts"]) == 1000 and all(whole.json()["texts"])
    before = memory_bytes(server)
    connection = unread(server, 50, "POST", "/v1/embed", body, headers.items())
    # The embeddings themselves have a third of the length of their text, the requests some half.
    # With the text, this would be more than one and a half times its length.
    assert memory_bytes(server) - before < 50 * len(whole.content)
    connection.close()


@pytest.mark.parametrize(
    "body", [b'{"%s": 1}', b'{"priority": "%s"}', b'{"inputs": {"texts": [], "images": ["%s"]}}']
)
def test_long_text_in_json_is_quoted_in_part(demo, body):
    body %= b"k" * (20 * MEGABYTE)
    headers = ("host: localhost", "content-type: application/json", f"content-length: {len(body)}")
    request = head("POST", "/v1/ask", *headers)
    response = exchange(demo.http, request, body)
    status, document = problem(response)
    assert (status, document["reason"]) == (400, "PAYLOAD_INVALID")
    assert len(response) < 2000


@pytest.mark.parametrize("start_of_body", [b"", b"--b\r\na: ", b"--b\r\n" + b"a: b\r\n" * 10])
def test_endless_part_headers_are_refused_at_once(demo, start_of_body):
    headers = ("content-type: multipart/form-data; boundary=b", "content-length: 60000000")
    request = head("POST", "/v1/ask", "host: localhost", *headers)
    before = cpu_s(demo)
    response = exchange(demo.http, request, start_of_body, *[b"x" * 1000] * 20_000)
    # The rest is read and dropped while the connection closes.
    assert response == b"" or problem(response)[1]["reason"] == "BODY_UNREADABLE"
    assert cpu_s(demo) - before < 2


def test_foreign_host_is_refused(demo):
    port = address_of(demo.http).rsplit(":", 1)[1]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "[::1]", "10.1.2.3", "blip.localhost"):
        response = exchange(demo.http, head("GET", "/v1/models", f"host: {host}"))
        assert response.startswith(b"HTTP/1.1 200"), host
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
        for url, path in ((demo.http, "/v1/models"), (demo.http, "/docs/"), (demo.metrics, "/metrics")):
            status, document = problem(exchange(url, head("GET", path, f"host: {host}")))
            assert (status, document["reason"]) == (403, "HOST_REFUSED"), host


def test_request_needs_exactly_one_host(demo):
    for hosts in ((), ("host: localhost", "host: localhost"), ("host: a b",)):
        for url in (demo.http, demo.metrics):
            status, document = problem(exchange(url, head("GET", "/", *hosts)))
            assert (status, document["reason"]) == (400, "HOST_INVALID"), hosts
    response = exchange(demo.metrics, b"GET /livez HTTP/1.0\r\n\r\n")
    assert b" 200 " in response


def test_allowed_hosts_are_accepted(start):
    server = start("--allowed-hosts", "blip.example,other.example")
    for url, path in ((server.http, "/v1/models"), (server.metrics, "/livez")):
        assert b" 200 " in exchange(url, head("GET", path, "host: BLIP.example:80"))
        assert problem(exchange(url, head("GET", path, "host: evil.example")))[0] == 403


def test_page_of_other_origin_cannot_set_log_filter(demo):
    def put(origin):
        headers = ("host: localhost", f"origin: {origin}", "content-length: 4")
        return exchange(demo.metrics, head("PUT", "/log-filter", *headers), b"info")

    for origin in ("http://evil.example", "null", "http://localhost:1"):
        assert problem(put(origin))[1]["reason"] == "ORIGIN_REFUSED"
    assert b" 200 " in put("http://localhost")


def test_incomplete_metrics_requests_leave_room(start):
    server = start("--metrics-max-connections", "5")
    connections = [connect(server.metrics) for _ in range(100)]
    for connection in connections:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n")
    for _ in range(3):
        assert requests.get(f"{server.metrics}/livez", timeout=TIMEOUT_S).text == "alive\n"
    assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < 80
    for connection in connections:
        connection.close()


def test_limit_on_open_files_is_raised(start, tmp_path):
    wrapper = tmp_path / "limited"
    limits = "ulimit -Sn 200\nulimit -Hn 1000"
    wrapper.write_text(f'#!/bin/sh\n{limits}\nexec {os.environ["BLIP_SERVE_BIN"]} "$@"\n')
    wrapper.chmod(0o755)
    server = start(program_path=str(wrapper))
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    assert re.search(r"Max open files +1000 +1000", limits)


def test_compressed_body_is_refused_by_name(demo):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    response = requests.post(f"{demo.http}/v1/ask", data=b"\x1f\x8b", headers=headers, timeout=TIMEOUT_S)
    assert (response.status_code, response.json()["field"]) == (415, "content-encoding")
    assert response.headers["accept-encoding"] == "identity"
