"""Whatever a stranger sends has its documented status, and the next honest request is answered."""

import re
import struct
import zlib

import grpc
import pytest
from conftest import ROOT

DOCUMENTED = set(re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) ", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
MIB = 1 << 20


def png(width, height, lines):
    """A PNG file of this size, in colour, whose `lines` begin with a byte each that names their filter."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def png_header(width, height):
    """A PNG file that claims a size and holds next to nothing."""
    return png(width, height, b"\0" * 64)


def bad_pairs(picture):
    """(name, image, question, code, reason, field at fault)."""
    image, question = "inputs[1].image.data", "inputs[1].questions[0].text"
    yield "no image", None, "what?", "INVALID_ARGUMENT", "IMAGE_MISSING", "inputs[1].image"
    yield "url of this machine", "http://127.0.0.1/a.png", "what?", "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED", "inputs[1].image.url"
    yield "0 bytes", b"", "what?", "INVALID_ARGUMENT", "IMAGE_EMPTY", image
    yield "one byte", b"\x89", "what?", "INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN", image
    yield "text", b"A cat sat on the mat.\n" * 40, "what?", "INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN", image
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "what?", "INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN", image
    for percent in (1, 25, 50, 75, 99):
        cut = picture[: max(9, len(picture) * percent // 100)]
        yield f"{percent} % of a png", cut, "what?", "INVALID_ARGUMENT", "IMAGE_UNREADABLE", image
    yield "30,000 x 30,000", png_header(30_000, 30_000), "what?", "INVALID_ARGUMENT", "IMAGE_TOO_MANY_PIXELS", image
    yield "2^31 x 1", png_header(2**31 - 1, 1), "what?", "INVALID_ARGUMENT", "IMAGE_TOO_MANY_PIXELS", image
    yield "empty image", png_header(0, 0), "what?", "INVALID_ARGUMENT", "IMAGE_UNREADABLE", image
    yield "21 MiB", bytes(21 * MIB), "what?", "INVALID_ARGUMENT", "IMAGE_TOO_LARGE", image
    yield "empty question", picture, "", "INVALID_ARGUMENT", "QUESTION_EMPTY", question
    yield "blank question", picture, " \t\n ", "INVALID_ARGUMENT", "QUESTION_EMPTY", question
    yield "10,000 words", picture, "what " * 10_000, "INVALID_ARGUMENT", "QUESTION_TOO_LONG", question
    yield "too many tokens", picture, "z " * 2_000, "INVALID_ARGUMENT", "QUESTION_TOO_LONG", question


def bad_calls(picture):
    """(name, inputs, code, reason)."""
    yield "nothing", [], "INVALID_ARGUMENT", "EMPTY_REQUEST"
    yield "an image without a question", [(picture, [])], "INVALID_ARGUMENT", "NO_QUESTIONS"
    yield "65 images", [(picture, ["what?"])] * 65, "INVALID_ARGUMENT", "TOO_MANY_IMAGES"
    yield "1,025 questions", [(picture, ["what?"] * 1025)], "INVALID_ARGUMENT", "TOO_MANY_QUESTIONS"
    yield "200,000 empty inputs", [(None, [])] * 200_000, "INVALID_ARGUMENT", "TOO_MANY_QUESTIONS"
    yield "70 MB", [(bytes(10 * MIB), ["what?"])] * 7, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"


def assert_documented(refusal, code, reason):
    assert (refusal.code, refusal.reason, refusal.domain) == (code, reason, "blip.v1")
    assert (reason, code) in DOCUMENTED
    assert refusal.message and refusal.message[0] == refusal.message[0].lower() and not refusal.message.endswith(".")
    assert len(refusal.message) < 400


def test_every_bad_pair_fails_alone_with_its_documented_status(demo, picture):
    honest = demo.client.outcomes([(picture, ["how many circles are in the picture?"])])[0, 0]
    for name, image, question, code, reason, field in bad_pairs(picture):
        outcomes = demo.client.outcomes([
            (picture, ["how many circles are in the picture?"]),
            (image, [question]),
            (picture, ["how many circles are in the picture?"]),
        ])
        assert outcomes.keys() == {(0, 0), (1, 0), (2, 0)}, name
        assert_documented(outcomes[1, 0], code, reason)
        assert outcomes[1, 0].field == field, name
        for neighbour in (outcomes[0, 0], outcomes[2, 0]):
            assert neighbour.token_ids == honest.token_ids, name
            assert neighbour.score == pytest.approx(honest.score, abs=1e-4), name


def test_every_bad_call_ends_with_its_documented_status(demo, picture):
    for name, inputs, code, reason in bad_calls(picture):
        refusal = demo.client.refused_call(inputs)
        assert refusal.reason == reason, name
        assert_documented(refusal, code, reason)
        assert demo.client.outcomes([(picture, ["is it there?"])])[0, 0].text


def test_hostile_requests_leave_memory_bounded(start, picture):
    server = start()
    server.client.outcomes([(picture, ["how many circles are in the picture?"])])
    idle = server.peak_memory_bytes()
    for _, image, question, *_ in bad_pairs(picture):
        server.client.outcomes([(image, [question])] * 3)
    for _, inputs, *_ in bad_calls(picture):
        server.client.refused_call(inputs)
    assert server.peak_memory_bytes() - idle < 300 * MIB


def test_an_image_refused_refuses_each_of_its_questions_once(demo):
    outcomes = demo.client.outcomes([(b"", ["one?", "two?", "three?"])])
    assert [outcomes[0, n].reason for n in range(3)] == ["IMAGE_EMPTY"] * 3


def test_a_deadline_that_has_passed_is_deadline_exceeded(demo):
    # The pair may be told first, by the scheduler, and the call then ends well, with nothing left unsaid.
    # A client that has no time left gives a millisecond all the same; no machine decodes this picture in that.
    slow = png(3000, 3000, bytes(3000 * (3 * 3000 + 1)))
    try:
        codes = [response.error.code for response in demo.client.ask([(slow, ["what?"])], timeout=0)]
    except grpc.RpcError as error:
        codes = [error.code().value[0]]
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED.value[0]]


def test_a_caller_who_hangs_up_leaves_the_server_well(demo, picture):
    for _ in range(20):
        call = demo.client.ask([(picture, [f"is number {n} there?" for n in range(100)])])
        next(call)
        call.cancel()
    assert demo.client.outcomes([(picture, ["is it there?"])])[0, 0].text
