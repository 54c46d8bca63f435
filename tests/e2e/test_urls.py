"""Images by URL: fetched from where the settings let, as good as sent, and refused with a documented reason otherwise."""

import base64
import json

import grpc
import pytest
import trustme
from image_server import ImageServer
from test_lifecycle import run
from test_request_errors import MIB, assert_documented

QUESTION = "how many circles are in the picture?"


def data_url(picture):
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def test_an_image_by_url_is_answered_as_the_same_image_by_bytes(fetching, web, picture):
    server = fetching()
    sent = server.client.outcomes([(picture, [QUESTION])])[0, 0]
    assert sent.timing.fetch_ms == 0
    for url in (web.url("picture"), web.url("moved"), data_url(picture)):
        answer = server.client.outcomes([(url, [QUESTION])])[0, 0]
        assert (answer.text, answer.token_ids) == (sent.text, sent.token_ids), url[:60]
        assert answer.score == pytest.approx(sent.score, abs=1e-4), url[:60]
        # It is the same image, however it came.
        assert answer.timing.image_reused, url[:60]
        timing = answer.timing
        assert (timing.fetch_ms > 0) == url.startswith("http"), url[:60]
        assert timing.fetch_ms + timing.preprocess_ms + timing.queue_ms <= timing.total_ms
    assert web.paths == ["/picture", "/moved", "/picture"]


def bad_urls(web):
    """(name, URL, code, reason)."""
    yield "empty", "", "INVALID_ARGUMENT", "URL_INVALID"
    yield "no url", "cat.png", "INVALID_ARGUMENT", "URL_INVALID"
    yield "too long", web.url("a" * 9000), "INVALID_ARGUMENT", "URL_INVALID"
    yield "no data url", "data:;base64", "INVALID_ARGUMENT", "URL_INVALID"
    yield "data that is no image", "data:image/png;base64,aGVsbG8=", "INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN"
    yield "data without any", "data:,", "INVALID_ARGUMENT", "IMAGE_EMPTY"
    yield "too much data", data_url(bytes(21 * MIB)), "INVALID_ARGUMENT", "URL_TOO_MANY_BYTES"
    yield "another scheme", "file:///etc/passwd", "INVALID_ARGUMENT", "URL_SCHEME_REFUSED"
    yield "credentials", f"http://user:secret@127.0.0.1:{web.port}/picture", "INVALID_ARGUMENT", "URL_CREDENTIALS_REFUSED"
    yield "another port", "http://127.0.0.1:22/", "INVALID_ARGUMENT", "URL_PORT_REFUSED"
    yield "another address", f"http://127.0.0.2:{web.port}/picture", "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED"
    yield "the same in IPv6", f"http://[::ffff:127.0.0.1]:{web.port}/picture", "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED"
    yield "metadata", "http://169.254.169.254/latest/meta-data/", "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED"
    yield "redirect to this machine", web.url("to-this-machine"), "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED"
    yield "redirect to a file", web.url("to-a-file"), "INVALID_ARGUMENT", "URL_SCHEME_REFUSED"
    yield "redirect to itself", web.url("around"), "FAILED_PRECONDITION", "URL_TOO_MANY_REDIRECTS"
    yield "404", web.url("missing"), "FAILED_PRECONDITION", "URL_BAD_STATUS"
    yield "500", web.url("broken"), "FAILED_PRECONDITION", "URL_BAD_STATUS"
    yield "gzip", web.url("zipped"), "FAILED_PRECONDITION", "URL_ENCODED"
    yield "a long length", web.url("said-to-be-large"), "INVALID_ARGUMENT", "URL_TOO_MANY_BYTES"
    yield "an endless body", web.url("endless"), "INVALID_ARGUMENT", "URL_TOO_MANY_BYTES"
    yield "a body that breaks off", web.url("cut"), "UNAVAILABLE", "URL_CONNECTION_FAILED"
    yield "an empty body", web.url("empty"), "INVALID_ARGUMENT", "IMAGE_EMPTY"
    yield "a page", web.url("text"), "INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN"


def test_every_bad_url_fails_alone_with_its_documented_status(fetching, web, picture):
    server = fetching()
    honest = server.client.outcomes([(picture, [QUESTION])])[0, 0]
    idle = server.peak_memory_bytes()
    for name, url, code, reason in bad_urls(web):
        outcomes = server.client.outcomes([(web.url("picture"), [QUESTION]), (url, [QUESTION, ""]), (picture, [QUESTION])])
        assert outcomes.keys() == {(0, 0), (1, 0), (1, 1), (2, 0)}, name
        assert outcomes[1, 0].reason == reason, name
        assert_documented(outcomes[1, 0], code, reason)
        assert outcomes[1, 0].metadata["field"] == "inputs[1].image.url", name
        assert outcomes[1, 0].field == (None if code == "UNAVAILABLE" else "inputs[1].image.url"), name
        for neighbour in (outcomes[0, 0], outcomes[2, 0]):
            assert neighbour.token_ids == honest.token_ids, name
    assert server.peak_memory_bytes() - idle < 300 * MIB


def test_this_machine_is_refused_by_default_in_every_notation(demo, web):
    hosts = ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:7f00:1]", "0.0.0.0"]
    outcomes = demo.client.outcomes([(f"http://{host}/picture", [QUESTION]) for host in hosts])
    for index, host in enumerate(hosts):
        assert_documented(outcomes[index, 0], "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED")
        assert "no public address" in outcomes[index, 0].message, host
    outcome = demo.client.outcomes([(web.url("picture"), [QUESTION])])[0, 0]
    assert_documented(outcome, "INVALID_ARGUMENT", "URL_PORT_REFUSED")
    assert web.paths == []


def test_named_domains_are_the_only_ones(fetching, web):
    server = fetching("--fetch-allow-domains", "images.example,*.pictures.example")
    for url in (web.url("picture"), "http://example.org/", "http://pictures.example/"):
        assert_documented(server.client.outcomes([(url, [QUESTION])])[0, 0], "INVALID_ARGUMENT", "URL_HOST_REFUSED")
    assert web.paths == []


def test_a_fetch_that_gets_stuck_ends_at_its_ceiling(fetching, web):
    server = fetching("--fetch-total-timeout-ms", "200")
    outcome = server.client.outcomes([(web.url("stuck"), [QUESTION])])[0, 0]
    assert_documented(outcome, "UNAVAILABLE", "URL_TIMEOUT")
    assert outcome.message == "inputs[0].image.url took too long: the whole image is limited to 200 ms"
    web.hung_up.wait()


def test_a_fetch_that_gets_stuck_ends_at_the_deadline_and_its_neighbours_are_answered(fetching, web, picture):
    server = fetching("--fetch-total-timeout-ms", "3600000")
    call = server.client.ask([(web.url("stuck"), [QUESTION]), (picture, [QUESTION]), (web.url("picture"), [QUESTION])], 3)
    answered = {next(call).image_index, next(call).image_index}
    assert answered == {1, 2}
    with pytest.raises(grpc.RpcError) as ended:
        next(call)
    assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    web.hung_up.wait()


def test_a_caller_who_hangs_up_ends_his_fetches(fetching, web, picture):
    server = fetching("--fetch-total-timeout-ms", "3600000")
    call = server.client.ask([(web.url("stuck"), [QUESTION]), (web.url("picture"), [QUESTION])])
    assert next(call).image_index == 1
    call.cancel()
    web.hung_up.wait()
    assert server.client.outcomes([(picture, [QUESTION])])[0, 0].text


def test_a_smaller_limit_on_images_holds_for_fetched_ones(fetching, web, picture):
    server = fetching("--max-image-bytes", str(len(picture) - 1))
    outcomes = server.client.outcomes([(web.url("picture"), [QUESTION]), (data_url(picture), [QUESTION])])
    for outcome in outcomes.values():
        assert_documented(outcome, "INVALID_ARGUMENT", "URL_TOO_MANY_BYTES")


def test_with_fetching_off_only_data_urls_are_served(fetching, web, picture):
    server = fetching("--fetch-off")
    outcomes = server.client.outcomes([(web.url("picture"), [QUESTION]), (data_url(picture), [QUESTION])])
    assert_documented(outcomes[0, 0], "UNIMPLEMENTED", "IMAGE_URL_UNSUPPORTED")
    assert outcomes[0, 0].field == "inputs[0].image.url"
    assert outcomes[1, 0].text
    assert web.paths == []


def test_ask_passes_urls_on_to_the_server(fetching, web, picture):
    server = fetching()
    images = [part for image in (web.url("picture"), data_url(picture)) for part in ("--image", image)]
    asked = run("ask", "--server", f"http://{server.address}", *images, "--question", QUESTION, "--json")
    assert asked.returncode == 0, asked
    lines = {line["image"]: line for line in map(json.loads, asked.stdout.splitlines())}
    fetched, held = lines[web.url("picture")], lines["data:image/png;base64,..."]
    assert fetched["answer"] == held["answer"]
    assert fetched["timing"]["fetch_ms"] > 0 == held["timing"]["fetch_ms"]
    assert web.paths == ["/picture"]


def test_a_network_that_is_none_is_one_clear_line():
    refused = run("serve", "--fetch-allow-networks", "inside")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and "inside" in refused.stderr


def test_by_https_only_servers_that_are_trusted_are_fetched_from(start, picture, tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    webs = {
        "trusted": ImageServer(picture, certificate=authority.issue_cert("127.0.0.1")),
        "by a stranger": ImageServer(picture, certificate=stranger.issue_cert("127.0.0.1")),
        "of another name": ImageServer(picture, certificate=authority.issue_cert("example.org")),
    }
    ports = ",".join(str(web.port) for web in webs.values())
    options = ("--fetch-allow-networks", "127.0.0.1/32", "--fetch-allow-ports", ports)
    server = start(*options, "--fetch-ca-file", str(tmp_path / "ca.pem"))
    for name, web in webs.items():
        outcome = server.client.outcomes([(web.url("picture"), [QUESTION])])[0, 0]
        if name == "trusted":
            assert outcome.text, outcome
        else:
            assert_documented(outcome, "UNAVAILABLE", "URL_CONNECTION_FAILED")
            assert web.paths == [], name
        web.stop()
