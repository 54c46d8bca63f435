"""The model card's JSON over HTTP, as its readers would send it: with `curl`, with `requests`, from a page, by hand."""

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

CARD_URL = "https://example.com"
EXAMPLES = ROOT / "crates/serve/src/http/examples"
KEY = "correct-horse-battery"
QUESTION = "how many circles are in the picture?"
TIMEOUT_S = 60


def card(url):
    """The model card's payload byte for byte, but for its URL."""
    payload = (EXAMPLES / "card_request.json").read_text()
    assert payload.count(CARD_URL) == 1
    return payload.replace(CARD_URL, url)


def curl(*arguments):
    """Status and body of what `curl` was answered."""
    command = ["curl", "--silent", "--show-error", "--max-time", str(TIMEOUT_S), "--write-out", "\n%{http_code}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), body


def ask(server, payload, **options):
    return requests.post(f"{server.http}/v1/ask", json=payload, timeout=TIMEOUT_S, **options)


def by_bytes(picture, *questions):
    image = {"base64": base64.b64encode(picture).decode()}
    return {"inputs": {"texts": [list(questions)], "images": [image]}}


def exchange(server, request):
    """All that is answered to bytes sent as they are, until the server closes the connection."""
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        response = b""
        while piece := connection.recv(1 << 16):
            response += piece
    return response


def test_the_model_cards_payload_is_answered_by_curl_in_the_order_of_its_questions(fetching, web, tmp_path):
    server = fetching()
    payload = tmp_path / "payload.json"
    payload.write_text(card(web.url("picture")))
    json_type = ("-H", "content-type: application/json")
    status, body = curl(f"{server.http}/v1/ask", *json_type, "--data-binary", f"@{payload}")
    assert status == 200
    response = json.loads(body)
    assert list(response) == ["captions"]
    [caption] = response["captions"]
    assert list(caption) == ["image_results"]
    asked = json.loads(payload.read_text())["inputs"]["texts"][0]
    alone = [server.client.outcomes([(web.url("picture"), [question])])[0, 0].text for question in asked]
    assert caption["image_results"] == alone
    # The bytes of the card's own response, but for its answers and white space.
    model = json.loads((EXAMPLES / "card_response.json").read_text())
    model["captions"][0]["image_results"] = alone
    assert body == json.dumps(model, separators=(",", ":"), ensure_ascii=False)


def test_a_wrong_secret_token_is_401_and_the_right_one_opens(fetching, web):
    server = fetching("--auth-keys", KEY)
    payload = card(web.url("picture"))
    refused = requests.post(
        f"{server.http}/v1/ask", data=payload, headers={"content-type": "application/json"}, timeout=TIMEOUT_S
    )
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.json()["reason"] == "API_KEY_INVALID"
    opened = ask(server, {**json.loads(payload), "secret_token": KEY})
    assert opened.status_code == 200
    assert len(opened.json()["captions"][0]["image_results"]) == 6


def test_a_missing_image_is_a_partial_result(fetching, web):
    server = fetching()
    questions = [QUESTION, "is there a square?"]
    images = [{"url": web.url("picture")}, {"url": web.url("missing")}]
    response = ask(server, {"inputs": {"texts": [questions, questions], "images": images}})
    assert response.status_code == 200
    first, second = (caption["image_results"] for caption in response.json()["captions"])
    assert all(first) and second == [None, None]
    errors = response.json()["errors"]
    assert [(error["image"], error["question"]) for error in errors] == [(1, 0), (1, 1)]
    for error in errors:
        assert (error["reason"], error["status"]) == ("URL_BAD_STATUS", 424)
        assert error["field"] == "inputs.images[1].url"


def test_a_form_uploads_files_with_curl(demo, picture, tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(picture)
    upload = ("-F", f"image=@{file}", "-F", f"question={QUESTION}", "-F", "details=true")
    status, body = curl(f"{demo.http}/v1/ask", *upload)
    assert status == 200
    [caption] = json.loads(body)["captions"]
    answer = demo.client.outcomes([(picture, [QUESTION])])[0, 0]
    assert caption["image_results"] == [answer.text]
    assert caption["details"][0]["token_ids"] == list(answer.token_ids)


def events(response):
    """(event, data) of each server-sent event."""
    for block in response.text.strip().split("\n\n"):
        fields = [line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")]
        if fields:
            yield fields[0][1], json.loads(fields[1][1])


def test_answers_stream_as_events(demo, picture):
    questions = [QUESTION, "", "is there a square?"]
    response = ask(demo, {**by_bytes(picture, *questions), "stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    *answers, (last, counts) = events(response)
    assert {event for event, _ in answers} == {"answer"}
    assert (last, counts) == ("end", {"answers": 2, "errors": 1})
    by_question = {data["question"]: data for _, data in answers}
    assert sorted(by_question) == [0, 1, 2]
    whole = ask(demo, by_bytes(picture, *questions)).json()["captions"][0]["image_results"]
    assert [by_question[index]["answer"] for index in range(3)] == whole
    assert by_question[1]["error"]["reason"] == "QUESTION_EMPTY"


def test_grpc_web_answers_a_frame_made_by_hand(demo, picture):
    request = demo.client.request([(picture, [QUESTION])]).SerializeToString()
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
    assert message.answer.text == demo.client.outcomes([(picture, [QUESTION])])[0, 0].text
    trailers = response.content[5 + length :]
    assert trailers[0] == 0x80 and b"grpc-status:0" in trailers


def test_the_documentation_needs_no_other_server(demo):
    page = requests.get(f"{demo.http}/docs/", timeout=TIMEOUT_S)
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert files and not any("//" in file for file in files)
    for file in files:
        assert requests.get(f"{demo.http}/docs/{file}", timeout=TIMEOUT_S).status_code == 200, file
    start = requests.get(f"{demo.http}/docs/swagger-initializer.js", timeout=TIMEOUT_S).text
    assert "/openapi.json" in start and "://" not in start
    problem = requests.get(f"{demo.http}/v2/ask", timeout=TIMEOUT_S).json()
    described = requests.get(f"{demo.http}{problem['type']}", timeout=TIMEOUT_S)
    assert f'id="{problem["reason"]}"' in described.text


def test_a_body_without_a_length_is_answered(demo, picture):
    payload = json.dumps(by_bytes(picture, QUESTION)).encode()
    pieces = (payload[at : at + 1000] for at in range(0, len(payload), 1000))
    json_type = {"content-type": "application/json"}
    response = requests.post(f"{demo.http}/v1/ask", data=pieces, headers=json_type, timeout=TIMEOUT_S)
    assert response.request.headers["transfer-encoding"] == "chunked"
    assert len(response.json()["captions"][0]["image_results"]) == 1


def test_a_client_that_is_refused_while_it_sends_still_reads_why(demo):
    huge = ask(demo, by_bytes(bytes(80 << 20), QUESTION))
    assert huge.status_code == 413
    assert huge.json()["reason"] == "MESSAGE_TOO_LARGE"


def test_a_body_that_stands_still_is_408(start):
    server = start("--upload-stall-s", "1")
    head = b"POST /v1/ask HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    response = exchange(server, head)
    assert response.startswith(b"HTTP/1.1 408 ") and b'"UPLOAD_STALLED"' in response


@pytest.mark.parametrize("request_bytes, status", [
    (b"GET /docs/ HTTP/1.1\r\nhost: a\r\nx-long: " + b"x" * (1 << 20) + b"\r\n\r\n", b"431"),
    (b"GET /docs/ HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 500 + b"\r\n", b"431"),
    (b"POST /v1/ask HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
    (b"no http at all, but more than twenty-four bytes of it\r\n\r\n", b"400"),
])
def test_what_no_client_library_sends_is_refused(demo, request_bytes, status):
    assert exchange(demo, request_bytes).split(b" ")[1] == status
    assert requests.get(f"{demo.http}/openapi.json", timeout=TIMEOUT_S).status_code == 200


def test_requests_in_a_pipeline_are_answered_in_their_order(demo, picture):
    def request(question, connection):
        body = json.dumps(by_bytes(picture, question)).encode()
        head = f"POST /v1/ask HTTP/1.1\r\nhost: a\r\nconnection: {connection}\r\ncontent-type: application/json\r\n"
        return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body

    response = exchange(demo, request(QUESTION, "keep-alive") + request("", "close"))
    first, second = response.split(b"HTTP/1.1 200 ")[1:]
    assert b"errors" not in first and b"QUESTION_EMPTY" in second


def test_json_bombs_cost_no_memory(demo, picture):
    json_type = {"content-type": "application/json"}
    ask(demo, by_bytes(picture, QUESTION))
    before = demo.peak_memory_bytes()
    lists = b'{"inputs": {"images": [], "texts": [' + b",".join([b"[]"] * 10_000_000) + b"]}}"
    deep = b'{"inputs": {"texts": ' + b"[" * 30_000_000
    for bomb in (lists, deep):
        response = requests.post(f"{demo.http}/v1/ask", data=bomb, headers=json_type, timeout=TIMEOUT_S)
        assert response.status_code == 400
    # The bodies themselves are held, and little else.
    assert demo.peak_memory_bytes() - before < 100 << 20


def test_many_callers_at_once_are_each_answered_as_if_alone(demo, picture):
    questions = [QUESTION, "is there a square?", "what color is the circle?"]
    alone = [ask(demo, by_bytes(picture, question)).json() for question in questions]
    with ThreadPoolExecutor(12) as callers:
        together = list(callers.map(lambda index: ask(demo, by_bytes(picture, questions[index % 3])).json(), range(60)))
    assert together == [alone[index % 3] for index in range(60)]


def test_a_head_request_has_no_body(demo):
    connection = http.client.HTTPConnection(demo.http.removeprefix("http://"), timeout=TIMEOUT_S)
    connection.request("HEAD", "/openapi.json")
    response = connection.getresponse()
    assert response.status == 200 and response.read() == b""
