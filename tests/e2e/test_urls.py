"""Image URLs: allowed ones are answered like inline images, others get a documented error."""

import base64
import json

import grpc
import pytest
import trustme
from image_server import ImageServer
from test_lifecycle import run
from test_request_errors import MIB, assert_documented

QUESTION = "how many circles are in the picture?"


def data_url(demo_image):
    """Returns a data URL."""
    return "data:image/png;base64," + base64.b64encode(demo_image).decode()


def test_image_url_is_answered_like_image_bytes(fetching, web, demo_image):
    server = fetching()
    sent = server.client.outcomes([(demo_image, [QUESTION])])[0, 0]
    assert sent.timing.fetch_ms == 0
    for url in (web.url("image"), web.url("moved"), data_url(demo_image)):
        answer = server.client.outcomes([(url, [QUESTION])])[0, 0]
        assert (answer.text, answer.token_ids) == (sent.text, sent.token_ids), url[:60]
        assert answer.score == pytest.approx(sent.score, abs=1e-4), url[:60]
        # The image is the same, whatever its source.
        assert answer.timing.image_reused, url[:60]
        timing = answer.timing
        assert (timing.fetch_ms > 0) == url.startswith("http"), url[:60]
        assert timing.fetch_ms + timing.preprocess_ms + timing.queue_ms <= timing.total_ms
    assert web.paths == ["/image", "/moved", "/image"]


def invalid_urls(web):
    """Yields (name, URL, code, reason)."""
    yield "empty", "", "INVALID_ARGUMENT", "URL_INVALID"
    yield "not a url", "cat.png", "INVALID_ARGUMENT", "URL_INVALID"
    yield "too long", web.url("a" * 9000), "INVALID_ARGUMENT", "URL_INVALID"
    yield "invalid data url", "data:;base64", "INVALID_ARGUMENT", "URL_INVALID"
    yield (
        "data without an image",
        "data:image/png;base64,aGVsbG8=",
        "INVALID_ARGUMENT",
        "IMAGE_FORMAT_UNKNOWN",
    )
    yield "empty data", "data:,", "INVALID_ARGUMENT", "IMAGE_EMPTY"
    yield "too much data", data_url(bytes(21 * MIB)), "INVALID_ARGUMENT", "URL_TOO_MANY_BYTES"
    yield "another scheme", "file:///etc/passwd", "INVALID_ARGUMENT", "URL_SCHEME_REFUSED"
    yield (
        "credentials",
        f"http://user:secret@127.0.0.1:{web.port}/image",
        "INVALID_ARGUMENT",
        "URL_CREDENTIALS_REFUSED",
    )
    yield "another port", "http://127.0.0.1:22/", "INVALID_ARGUMENT", "URL_PORT_REFUSED"
    yield "another address", f"http://127.0.0.2:{web.port}/image", "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED"
    yield (
        "the same in IPv6",
        f"http://[::ffff:127.0.0.1]:{web.port}/image",
        "INVALID_ARGUMENT",
        "URL_ADDRESS_REFUSED",
    )
    yield "metadata", "http://169.254.169.254/latest/meta-data/", "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED"
    yield "redirect to loopback", web.url("to-loopback"), "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED"
    yield "redirect to a file", web.url("to-file"), "INVALID_ARGUMENT", "URL_SCHEME_REFUSED"
    yield "redirect to itself", web.url("loop"), "FAILED_PRECONDITION", "URL_TOO_MANY_REDIRECTS"
    yield "404", web.url("missing"), "FAILED_PRECONDITION", "URL_BAD_STATUS"
    yield "500", web.url("broken"), "FAILED_PRECONDITION", "URL_BAD_STATUS"
    yield "gzip", web.url("zipped"), "FAILED_PRECONDITION", "URL_ENCODED"
    yield "a long length", web.url("large-length"), "INVALID_ARGUMENT", "URL_TOO_MANY_BYTES"
    yield "an endless body", web.url("endless"), "INVALID_ARGUMENT", "URL_TOO_MANY_BYTES"
    yield "a truncated body", web.url("truncated"), "UNAVAILABLE", "URL_CONNECTION_FAILED"
    yield "an empty body", web.url("empty"), "INVALID_ARGUMENT", "IMAGE_EMPTY"
    yield "a page", web.url("text"), "INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN"


def test_invalid_url_fails_alone_with_documented_status(fetching, web, demo_image):
    server = fetching()
    valid = server.client.outcomes([(demo_image, [QUESTION])])[0, 0]
    idle = server.peak_memory_bytes()
    for name, url, code, reason in invalid_urls(web):
        outcomes = server.client.outcomes(
            [(web.url("image"), [QUESTION]), (url, [QUESTION, ""]), (demo_image, [QUESTION])]
        )
        assert outcomes.keys() == {(0, 0), (1, 0), (1, 1), (2, 0)}, name
        assert outcomes[1, 0].reason == reason, name
        assert_documented(outcomes[1, 0], code, reason)
        assert outcomes[1, 0].metadata["field"] == "inputs[1].image.url", name
        assert outcomes[1, 0].field == (None if code == "UNAVAILABLE" else "inputs[1].image.url"), name
        for other in (outcomes[0, 0], outcomes[2, 0]):
            assert other.token_ids == valid.token_ids, name
    assert server.peak_memory_bytes() - idle < 300 * MIB


def test_loopback_urls_are_rejected_in_every_notation(demo, web):
    hosts = ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:7f00:1]", "0.0.0.0"]
    outcomes = demo.client.outcomes([(f"http://{host}/image", [QUESTION]) for host in hosts])
    for index, host in enumerate(hosts):
        assert_documented(outcomes[index, 0], "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED")
        assert "no public address" in outcomes[index, 0].message, host
    outcome = demo.client.outcomes([(web.url("image"), [QUESTION])])[0, 0]
    assert_documented(outcome, "INVALID_ARGUMENT", "URL_PORT_REFUSED")
    assert web.paths == []


def test_allowed_domains_exclude_all_others(fetching, web):
    server = fetching("--fetch-allow-domains", "images.example,*.photos.example")
    for url in (web.url("image"), "http://example.org/", "http://photos.example/"):
        assert_documented(
            server.client.outcomes([(url, [QUESTION])])[0, 0], "INVALID_ARGUMENT", "URL_HOST_REFUSED"
        )
    assert web.paths == []


def test_idle_fetch_ends_at_total_timeout(fetching, web):
    server = fetching("--fetch-total-timeout-ms", "200")
    outcome = server.client.outcomes([(web.url("idle"), [QUESTION])])[0, 0]
    assert_documented(outcome, "UNAVAILABLE", "URL_TIMEOUT")
    assert outcome.message == "cannot fetch inputs[0].image.url in time: 200 ms allowed for the whole image"
    web.client_left.wait()


def test_idle_fetch_ends_at_deadline_and_others_are_answered(fetching, web, demo_image):
    server = fetching("--fetch-total-timeout-ms", "3600000")
    call = server.client.ask(
        [(web.url("idle"), [QUESTION]), (demo_image, [QUESTION]), (web.url("image"), [QUESTION])], 3
    )
    answered_images = {next(call).image_index, next(call).image_index}
    assert answered_images == {1, 2}
    with pytest.raises(grpc.RpcError) as raised:
        next(call)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    web.client_left.wait()


def test_cancelled_call_cancels_its_fetches(fetching, web, demo_image):
    server = fetching("--fetch-total-timeout-ms", "3600000")
    call = server.client.ask([(web.url("idle"), [QUESTION]), (web.url("image"), [QUESTION])])
    assert next(call).image_index == 1
    call.cancel()
    web.client_left.wait()
    assert server.client.outcomes([(demo_image, [QUESTION])])[0, 0].text


def test_image_size_limit_applies_to_fetched_images(fetching, web, demo_image):
    server = fetching("--max-image-bytes", str(len(demo_image) - 1))
    outcomes = server.client.outcomes([(web.url("image"), [QUESTION]), (data_url(demo_image), [QUESTION])])
    for outcome in outcomes.values():
        assert_documented(outcome, "INVALID_ARGUMENT", "URL_TOO_MANY_BYTES")


def test_disabled_fetching_accepts_data_urls_only(fetching, web, demo_image):
    server = fetching("--fetch=false")
    outcomes = server.client.outcomes([(web.url("image"), [QUESTION]), (data_url(demo_image), [QUESTION])])
    assert_documented(outcomes[0, 0], "UNIMPLEMENTED", "IMAGE_URL_UNSUPPORTED")
    assert outcomes[0, 0].field == "inputs[0].image.url"
    assert outcomes[1, 0].text
    assert web.paths == []


def test_ask_command_sends_urls_to_server(fetching, web, demo_image):
    server = fetching()
    images = [part for image in (web.url("image"), data_url(demo_image)) for part in ("--image", image)]
    completed = run("ask", "--server", f"http://{server.address}", *images, "--question", QUESTION, "--json")
    assert completed.returncode == 0, completed
    lines = {line["image"]: line for line in map(json.loads, completed.stdout.splitlines())}
    fetched, inline = lines[web.url("image")], lines["data:image/png;base64,..."]
    assert fetched["answer"] == inline["answer"]
    assert fetched["timing"]["fetch_ms"] > 0 == inline["timing"]["fetch_ms"]
    assert web.paths == ["/image"]


def test_invalid_network_prints_one_line():
    completed = run("serve", "--fetch-allow-networks", "inside")
    assert completed.returncode == 2
    assert completed.stderr.count("\n") == 1 and "inside" in completed.stderr


def test_https_fetch_requires_trusted_certificate(start, demo_image, tmp_path):
    authority, untrusted = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    webs = {
        "trusted": ImageServer(demo_image, certificate=authority.issue_cert("127.0.0.1")),
        "untrusted": ImageServer(demo_image, certificate=untrusted.issue_cert("127.0.0.1")),
        "wrong name": ImageServer(demo_image, certificate=authority.issue_cert("example.org")),
    }
    ports = ",".join(str(web.port) for web in webs.values())
    options = ("--fetch-allow-networks", "127.0.0.1/32", "--fetch-allow-ports", ports)
    server = start(*options, "--fetch-ca-file", str(tmp_path / "ca.pem"))
    for name, web in webs.items():
        outcome = server.client.outcomes([(web.url("image"), [QUESTION])])[0, 0]
        if name == "trusted":
            assert outcome.text, outcome
        else:
            assert_documented(outcome, "UNAVAILABLE", "URL_CONNECTION_FAILED")
            assert web.paths == [], name
        web.stop()


KEYS = """
[[keys]]
name = "one"
key = "correct-horse"

[[keys]]
name = "two"
key = "battery-staple"
"""


@pytest.mark.parametrize("path", ["hang", "idle"])
def test_slow_host_of_a_client_holds_up_no_other(start, demo_image, tmp_path, path):
    slow, quick = ImageServer(demo_image, host="127.0.0.2"), ImageServer(demo_image)
    (tmp_path / "keys.toml").write_text(KEYS)
    networks, ports = "127.0.0.0/8", f"{slow.port},{quick.port}"
    options = ("--fetch-allow-networks", networks, "--fetch-allow-ports", ports)
    limits = ("--fetch-max-memory-bytes", str(64 * MIB), "--fetch-total-timeout-ms", "3600000")
    keys = ("--auth-keys-file", str(tmp_path / "keys.toml"))
    server = start(*options, *limits, "--fetch-first-byte-timeout-ms", "3600000", *keys, connect=False)
    one = server.connect(headers=[("x-api-key", "correct-horse")])
    two = server.connect(headers=[("x-api-key", "battery-staple")])
    url = f"http://127.0.0.2:{slow.port}/{path}"
    calls = [
        one.ask([(f"{url}?{call}-{image}", [QUESTION]) for image in range(64)]) for call in range(8)
    ]
    while not slow.paths:
        assert all(call.is_active() for call in calls)
    for client in (two, one):
        assert client.outcomes([(quick.url("image"), [QUESTION])])[0, 0].text
    for call in calls:
        call.cancel()
    slow.stop()
    quick.stop()


@pytest.mark.parametrize(("path", "requests"), [("busy", 64 + 1), ("loop", 2 * 64 + 8)])
def test_requests_of_a_call_to_one_host_are_bounded(fetching, web, path, requests):
    server = fetching()
    outcomes = server.client.outcomes([(web.url(f"{path}?{image}"), [QUESTION]) for image in range(64)])
    reasons = {outcome.reason for outcome in outcomes.values()}
    assert reasons == {"URL_BAD_STATUS" if path == "busy" else "URL_TOO_MANY_REDIRECTS"}
    assert len(web.paths) <= requests


def test_odd_responses_are_read_as_other_clients_read_them(fetching, web):
    server = fetching()
    for path in ("no-coding", "odd-headers", "many-headers", "raw-location", "status-203"):
        assert server.client.outcomes([(web.url(path), [QUESTION])])[0, 0].text, path
