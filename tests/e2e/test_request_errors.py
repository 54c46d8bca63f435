"""Invalid requests get their documented status, and the next valid request is answered."""

import re
import struct
import zlib

import grpc
import pytest
from conftest import ROOT

DOCUMENTED = set(
    re.findall(
        r"^\| `([A-Z_]+)` \| ([A-Z_]+) ", (ROOT / "docs/reference/errors.md").read_text(), re.MULTILINE
    )
)
MIB = 1 << 20


def png(width, height, lines):
    """Returns a colour PNG. Each of its `lines` begins with the byte of its filter."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def png_header(width, height):
    """Returns a PNG file that declares a size and contains 64 bytes."""
    return png(width, height, b"\0" * 64)


def invalid_items(demo_image):
    """Yields (name, image, question, code, reason, invalid field)."""
    image, question = "inputs[1].image.data", "inputs[1].questions[0].text"
    yield "no image", None, "what?", "INVALID_ARGUMENT", "IMAGE_MISSING", "inputs[1].image"
    yield (
        "loopback url",
        "http://127.0.0.1/a.png",
        "what?",
        "INVALID_ARGUMENT",
        "URL_ADDRESS_REFUSED",
        "inputs[1].image.url",
    )
    yield "0 bytes", b"", "what?", "INVALID_ARGUMENT", "IMAGE_EMPTY", image
    yield "one byte", b"\x89", "what?", "INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN", image
    yield "text", b"A cat sat on the mat.\n" * 40, "what?", "INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN", image
    yield (
        "svg",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "what?",
        "INVALID_ARGUMENT",
        "IMAGE_FORMAT_UNKNOWN",
        image,
    )
    for percent in (1, 25, 50, 75, 99):
        cut = demo_image[: max(9, len(demo_image) * percent // 100)]
        yield f"{percent} % of a png", cut, "what?", "INVALID_ARGUMENT", "IMAGE_UNREADABLE", image
    yield (
        "30,000 x 30,000",
        png_header(30_000, 30_000),
        "what?",
        "INVALID_ARGUMENT",
        "IMAGE_TOO_MANY_PIXELS",
        image,
    )
    yield "2^31 x 1", png_header(2**31 - 1, 1), "what?", "INVALID_ARGUMENT", "IMAGE_TOO_MANY_PIXELS", image
    yield "empty image", png_header(0, 0), "what?", "INVALID_ARGUMENT", "IMAGE_UNREADABLE", image
    yield "21 MiB", bytes(21 * MIB), "what?", "INVALID_ARGUMENT", "IMAGE_TOO_LARGE", image
    yield "empty question", demo_image, "", "INVALID_ARGUMENT", "QUESTION_EMPTY", question
    yield "blank question", demo_image, " \t\n ", "INVALID_ARGUMENT", "QUESTION_EMPTY", question
    yield "10,000 words", demo_image, "what " * 10_000, "INVALID_ARGUMENT", "QUESTION_TOO_LONG", question
    yield "too many tokens", demo_image, "z " * 2_000, "INVALID_ARGUMENT", "QUESTION_TOO_LONG", question


def invalid_calls(demo_image):
    """Yields (name, inputs, code, reason)."""
    yield "nothing", [], "INVALID_ARGUMENT", "EMPTY_REQUEST"
    yield "an image without a question", [(demo_image, [])], "INVALID_ARGUMENT", "NO_QUESTIONS"
    yield "65 images", [(demo_image, ["what?"])] * 65, "INVALID_ARGUMENT", "TOO_MANY_IMAGES"
    yield "1,025 questions", [(demo_image, ["what?"] * 1025)], "INVALID_ARGUMENT", "TOO_MANY_QUESTIONS"
    yield "200,000 empty inputs", [(None, [])] * 200_000, "INVALID_ARGUMENT", "TOO_MANY_QUESTIONS"
    yield "70 MB", [(bytes(10 * MIB), ["what?"])] * 7, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"


def assert_documented(error, code, reason):
    """Checks code, reason and form of an error."""
    assert (error.code, error.reason, error.domain) == (code, reason, "blip.v1")
    assert (reason, code) in DOCUMENTED
    assert error.message and error.message[0] == error.message[0].lower() and not error.message.endswith(".")
    assert len(error.message) < 400


def test_invalid_item_fails_alone_with_documented_status(demo, demo_image):
    valid = demo.client.outcomes([(demo_image, ["how many circles are in the picture?"])])[0, 0]
    for name, image, question, code, reason, field in invalid_items(demo_image):
        outcomes = demo.client.outcomes(
            [
                (demo_image, ["how many circles are in the picture?"]),
                (image, [question]),
                (demo_image, ["how many circles are in the picture?"]),
            ]
        )
        assert outcomes.keys() == {(0, 0), (1, 0), (2, 0)}, name
        assert_documented(outcomes[1, 0], code, reason)
        assert outcomes[1, 0].field == field, name
        for other in (outcomes[0, 0], outcomes[2, 0]):
            assert other.token_ids == valid.token_ids, name
            assert other.score == pytest.approx(valid.score, abs=1e-4), name


def test_invalid_call_ends_with_documented_status(demo, demo_image):
    for name, inputs, code, reason in invalid_calls(demo_image):
        error = demo.client.failed_call(inputs)
        assert error.reason == reason, name
        assert_documented(error, code, reason)
        assert demo.client.outcomes([(demo_image, ["is it there?"])])[0, 0].text


def test_invalid_requests_use_bounded_memory(start, demo_image):
    server = start()
    server.client.outcomes([(demo_image, ["how many circles are in the picture?"])])
    idle = server.peak_memory_bytes()
    for _, image, question, *_ in invalid_items(demo_image):
        server.client.outcomes([(image, [question])] * 3)
    for _, inputs, *_ in invalid_calls(demo_image):
        server.client.failed_call(inputs)
    assert server.peak_memory_bytes() - idle < 300 * MIB


def test_invalid_image_fails_each_question_once(demo):
    outcomes = demo.client.outcomes([(b"", ["one?", "two?", "three?"])])
    assert [outcomes[0, n].reason for n in range(3)] == ["IMAGE_EMPTY"] * 3


def test_expired_deadline_returns_deadline_exceeded(demo):
    # The scheduler may report the item first. The call then succeeds.
    # gRPC sets a deadline of at least one millisecond. Decoding this image takes longer.
    slow = png(3000, 3000, bytes(3000 * (3 * 3000 + 1)))
    try:
        codes = [response.error.code for response in demo.client.ask([(slow, ["what?"])], timeout=0)]
    except grpc.RpcError as error:
        codes = [error.code().value[0]]
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED.value[0]]


def test_cancelled_calls_do_not_affect_server(demo, demo_image):
    for _ in range(20):
        call = demo.client.ask([(demo_image, [f"is number {n} there?" for n in range(100)])])
        next(call)
        call.cancel()
    assert demo.client.outcomes([(demo_image, ["is it there?"])])[0, 0].text
