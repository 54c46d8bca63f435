"""The HTTP API, with `curl`, with `requests` and with raw bytes."""

import base64
import http.client
import json
import re
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from conftest import ROOT
from image_server import ImageServer

CARD_URL = "https://example.com"
EXAMPLES = ROOT / "crates/server/src/http/examples"
KEY = "correct-horse-battery"
QUESTION = "how many circles are in the picture?"
TIMEOUT_S = 60


def card(url):
    """Returns the payload of the model card with another URL."""
    payload = (EXAMPLES / "model_card_request.json").read_text()
    assert payload.count(CARD_URL) == 1
    return payload.replace(CARD_URL, url)


def curl(*arguments):
    """Returns status and body of a request by `curl`."""
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        str(TIMEOUT_S),
        "--write-out",
        "\n%{http_code}",
    ]
    completed = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    body, status = completed.stdout.rsplit("\n", 1)
    return int(status), body


def ask(server, payload, **options):
    """Posts a payload to `/v1/ask`."""
    return requests.post(f"{server.http}/v1/ask", json=payload, timeout=TIMEOUT_S, **options)


def payload_of(demo_image, *questions):
    """Returns a payload with the image in base64."""
    image = {"base64": base64.b64encode(demo_image).decode()}
    return {"inputs": {"texts": [list(questions)], "images": [image]}}


def exchange(server, request):
    """Sends bytes and returns everything that the server sends until it closes the connection."""
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        response = b""
        while piece := connection.recv(1 << 16):
            response += piece
    return response


def test_model_card_payload_is_answered_in_question_order(fetching, web, tmp_path):
    server = fetching()
    payload = tmp_path / "payload.json"
    payload.write_text(card(web.url("image")))
    json_type = ("-H", "content-type: application/json")
    status, body = curl(f"{server.http}/v1/ask", *json_type, "--data-binary", f"@{payload}")
    assert status == 200
    response = json.loads(body)
    assert list(response) == ["captions"]
    [caption] = response["captions"]
    assert list(caption) == ["image_results"]
    questions = json.loads(payload.read_text())["inputs"]["texts"][0]
    single = [server.client.outcomes([(web.url("image"), [question])])[0, 0].text for question in questions]
    assert caption["image_results"] == single
    # The body equals the response of the model card except for answers and white space.
    model = json.loads((EXAMPLES / "model_card_response.json").read_text())
    model["captions"][0]["image_results"] = single
    assert body == json.dumps(model, separators=(",", ":"), ensure_ascii=False)


def test_secret_token_is_required_and_checked(fetching, web):
    server = fetching("--auth-keys", KEY)
    payload = card(web.url("image"))
    rejected = requests.post(
        f"{server.http}/v1/ask", data=payload, headers={"content-type": "application/json"}, timeout=TIMEOUT_S
    )
    assert rejected.status_code == 401
    assert rejected.headers["content-type"] == "application/problem+json"
    assert rejected.headers["www-authenticate"].startswith("Bearer")
    assert rejected.json()["reason"] == "API_KEY_INVALID"
    accepted = ask(server, {**json.loads(payload), "secret_token": KEY})
    assert accepted.status_code == 200
    assert len(accepted.json()["captions"][0]["image_results"]) == 6


def test_rejection_before_the_body_announces_the_close(start):
    """A client that used the connection again would lose its next request."""
    server, body = start("--auth-keys", KEY), b"x" * 200_000
    for key, status in (("wrong-key", 401), (KEY, 415)):
        head = f"POST /v1/ask HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
        host, port = server.http.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
            connection.sendall(head.encode())
            response = connection.recv(1 << 16)
            # The server reads the rest, so that the response is not lost in a reset.
            connection.sendall(body)
            while piece := connection.recv(1 << 16):
                response += piece
        head = response.split(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"http/1.1 %d" % status) and b"connection: close" in head.split(b"\r\n"), head


def test_connection_stays_open_after_rejections(start):
    server = start("--auth-keys", KEY)
    with requests.Session() as session:
        for path, key, status in (
            ("/v1/ask", KEY, 400),
            # The server does not read these bodies for an answer.
            ("/v1/ask", "wrong-key", 401),
            ("/v1/nothing", KEY, 404),
            ("/v2/repository/index", KEY, 200),
        ):
            headers = {"authorization": f"Bearer {key}"}
            response = session.post(server.http + path, json={"inputs": 5}, headers=headers, timeout=TIMEOUT_S)
            assert response.status_code == status and "connection" not in response.headers, path


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_response_of_a_removed_key_ends(start, demo_image, tmp_path, accept):
    keys, removed = tmp_path / "keys.toml", "[[keys]]\nname = 'removed'\nkey = 'removed-key'\n"
    keys.write_text(removed + removed.replace("removed", "valid"))
    slow = ImageServer(demo_image)
    options = ("--fetch-allow-networks", "127.0.0.1/32", "--fetch-allow-ports", str(slow.port))
    timeouts = ("--fetch-total-timeout-ms", "3600000", "--fetch-first-byte-timeout-ms", "3600000")
    reload = ("--auth-keys-file", str(keys), "--auth-reload-s", "1")
    server = start(*options, *timeouts, *reload, connect=False)
    payload = {"inputs": {"texts": [[QUESTION]], "images": [{"url": slow.url("hang")}]}}
    with ThreadPoolExecutor() as pool:
        headers = {"accept": accept, "x-api-key": "removed-key"}
        response = pool.submit(ask, server, payload, headers=headers)
        while not slow.paths:
            assert not response.done()
        keys.write_text(removed.replace("removed", "valid"))
        assert "API_KEY_INVALID" in response.result().text
    slow.stop()


def test_missing_image_gives_partial_result(fetching, web):
    server = fetching()
    questions = [QUESTION, "is there a square?"]
    images = [{"url": web.url("image")}, {"url": web.url("missing")}]
    response = ask(server, {"inputs": {"texts": [questions, questions], "images": images}})
    assert response.status_code == 200
    first, second = (caption["image_results"] for caption in response.json()["captions"])
    assert all(first) and second == [None, None]
    errors = response.json()["errors"]
    assert [(error["image"], error["question"]) for error in errors] == [(1, 0), (1, 1)]
    for error in errors:
        assert (error["reason"], error["status"]) == ("URL_BAD_STATUS", 424)
        assert error["field"] == "inputs.images[1].url"


def test_form_upload_with_curl_is_answered(demo, demo_image, tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(demo_image)
    upload = ("-F", f"image=@{file}", "-F", f"question={QUESTION}", "-F", "details=true")
    status, body = curl(f"{demo.http}/v1/ask", *upload)
    assert status == 200
    [caption] = json.loads(body)["captions"]
    answer = demo.client.outcomes([(demo_image, [QUESTION])])[0, 0]
    assert caption["image_results"] == [answer.text]
    assert caption["details"][0]["token_ids"] == list(answer.token_ids)


def events(response):
    """Yields (event, data) of each server-sent event."""
    for block in response.text.strip().split("\n\n"):
        fields = [line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")]
        if fields:
            yield fields[0][1], json.loads(fields[1][1])


def test_stream_sends_answers_as_events(demo, demo_image):
    questions = [QUESTION, "", "is there a square?"]
    response = ask(demo, {**payload_of(demo_image, *questions), "stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    *answers, (last, counts) = events(response)
    assert {event for event, _ in answers} == {"answer"}
    assert (last, counts) == ("end", {"answers": 2, "errors": 1})
    by_question = {data["question"]: data for _, data in answers}
    assert sorted(by_question) == [0, 1, 2]
    unstreamed = ask(demo, payload_of(demo_image, *questions)).json()["captions"][0]["image_results"]
    assert [by_question[index]["answer"] for index in range(3)] == unstreamed
    assert by_question[1]["error"]["reason"] == "QUESTION_EMPTY"


def test_grpc_web_frame_is_answered(demo, demo_image):
    request = demo.client.request([(demo_image, [QUESTION])]).SerializeToString()
    frame = b"\0" + struct.pack(">I", len(request)) + request
    response = requests.post(
        f"{demo.http}/blip.v1.BlipService/Ask",
        data=frame,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
        timeout=TIMEOUT_S,
    )
    assert response.status_code == 200
    flags, length = struct.unpack(">BI", response.content[:5])
    assert flags == 0
    message = demo.client.type("blip.v1.AskResponse").FromString(response.content[5 : 5 + length])
    assert message.answer.text == demo.client.outcomes([(demo_image, [QUESTION])])[0, 0].text
    trailers = response.content[5 + length :]
    assert trailers[0] == 0x80 and b"grpc-status:0" in trailers


def test_documentation_uses_no_external_files(demo):
    page = requests.get(f"{demo.http}/docs/", timeout=TIMEOUT_S)
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert files and not any("//" in file for file in files)
    for file in files:
        assert requests.get(f"{demo.http}/docs/{file}", timeout=TIMEOUT_S).status_code == 200, file
    initializer = requests.get(f"{demo.http}/docs/swagger-initializer.js", timeout=TIMEOUT_S).text
    assert "/openapi.json" in initializer and "://" not in initializer
    problem = requests.get(f"{demo.http}/v3/ask", timeout=TIMEOUT_S).json()
    description = requests.get(f"{demo.http}{problem['type']}", timeout=TIMEOUT_S)
    assert f'id="{problem["reason"]}"' in description.text


def test_chunked_body_is_answered(demo, demo_image):
    payload = json.dumps(payload_of(demo_image, QUESTION)).encode()
    pieces = (payload[at : at + 1000] for at in range(0, len(payload), 1000))
    json_type = {"content-type": "application/json"}
    response = requests.post(f"{demo.http}/v1/ask", data=pieces, headers=json_type, timeout=TIMEOUT_S)
    assert response.request.headers["transfer-encoding"] == "chunked"
    assert len(response.json()["captions"][0]["image_results"]) == 1


def test_rejected_upload_returns_error_to_client(demo):
    huge = ask(demo, payload_of(bytes(80 << 20), QUESTION))
    assert huge.status_code == 413
    assert huge.json()["reason"] == "MESSAGE_TOO_LARGE"


def test_idle_upload_returns_408(start):
    server = start("--upload-idle-timeout-s", "1")
    head = (
        b"POST /v1/ask HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    )
    response = exchange(server, head)
    assert response.startswith(b"HTTP/1.1 408 ") and b'"UPLOAD_STALLED"' in response


@pytest.mark.parametrize(
    "request_bytes, status",
    [
        (b"GET /docs/ HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"x" * (1 << 20) + b"\r\n\r\n", b"431"),
        (b"GET /docs/ HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 500 + b"\r\n", b"431"),
        (
            b"POST /v1/ask HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"400",
        ),
        (b"no http at all, but more than twenty-four bytes of it\r\n\r\n", b"400"),
    ],
)
def test_malformed_http_is_rejected(demo, request_bytes, status):
    assert exchange(demo, request_bytes).split(b" ")[1] == status
    assert requests.get(f"{demo.http}/openapi.json", timeout=TIMEOUT_S).status_code == 200


def test_pipelined_requests_are_answered_in_order(demo, demo_image):
    def request(question, connection):
        body = json.dumps(payload_of(demo_image, question)).encode()
        head = f"POST /v1/ask HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\ncontent-type: application/json\r\n"
        return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body

    response = exchange(demo, request(QUESTION, "keep-alive") + request("", "close"))
    first, second = response.split(b"HTTP/1.1 200 ")[1:]
    assert b"errors" not in first and b"QUESTION_EMPTY" in second


def test_json_bombs_use_bounded_memory(demo, demo_image):
    json_type = {"content-type": "application/json"}
    ask(demo, payload_of(demo_image, QUESTION))
    before = demo.peak_memory_bytes()
    lists = b'{"inputs": {"images": [], "texts": [' + b",".join([b"[]"] * 10_000_000) + b"]}}"
    deep = b'{"inputs": {"texts": ' + b"[" * 30_000_000
    for bomb in (lists, deep):
        response = requests.post(f"{demo.http}/v1/ask", data=bomb, headers=json_type, timeout=TIMEOUT_S)
        assert response.status_code == 400
    # The server holds the bodies and little else.
    assert demo.peak_memory_bytes() - before < 100 << 20


def test_concurrent_requests_are_answered_like_single_ones(demo, demo_image):
    questions = [QUESTION, "is there a square?", "what color is the circle?"]
    single = [ask(demo, payload_of(demo_image, question)).json() for question in questions]
    with ThreadPoolExecutor(12) as pool:
        concurrent = list(
            pool.map(lambda index: ask(demo, payload_of(demo_image, questions[index % 3])).json(), range(60))
        )
    assert concurrent == [single[index % 3] for index in range(60)]


def test_head_request_returns_no_body(demo):
    connection = http.client.HTTPConnection(demo.http.removeprefix("http://"), timeout=TIMEOUT_S)
    connection.request("HEAD", "/openapi.json")
    response = connection.getresponse()
    assert response.status == 200 and response.read() == b""
