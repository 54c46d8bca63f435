"""Images that cost far more to decode than they weigh, and callers that send many of them."""

import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_decode_isolation import is_answered, outcome, serve, slow_jpeg, small_png, workers  # noqa: F401
from test_fair_shares import keys_file, with_key  # noqa: F401
from test_request_errors import assert_documented

sys.path.append(str(ROOT / "tests/attacks"))
import image_bombs  # noqa: E402
from server_load import cpu_seconds  # noqa: E402

QUESTION = "how many circles are in the picture?"
MAX_EXTRA_BYTES = 300_000_000
REFUSED = {
    "strips": image_bombs.tiff_with_large_strips(1000),
    "one strip": image_bombs.tiff_with_large_strips(1, components=4),
    "hidden scans": image_bombs.hidden_scans_jpeg(1000, 1000),
    "prefix codes": image_bombs.webp_with_many_codes(8192),
}
ANSWERED = {
    "WebP of one color": image_bombs.flat_webp(5000),
    "progressive JPEG": image_bombs.progressive_jpeg(5000),
    "scans that refine": slow_jpeg(0),
    "PNG of one value": image_bombs.flat_png(5000),
}


def memory(server, field):
    """Returns the sum of a field of /proc/PID/status over the server and its workers, in bytes."""
    total = 0
    for pid in [server.process.pid, *workers(server)]:
        status = Path(f"/proc/{pid}/status").read_text()
        total += int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) << 10
    return total


def cost(server, image):
    """Returns the result for an image, the CPU time that it took in seconds, and its memory."""
    assert is_answered(server, small_png(1))
    cpu, before = cpu_seconds(server.process.pid), memory(server, "VmRSS")
    result = outcome(server, image)
    return result, cpu_seconds(server.process.pid) - cpu, memory(server, "VmHWM") - before


@pytest.mark.parametrize("name", REFUSED)
def test_costly_file_is_refused_for_its_header(serve, name):  # noqa: F811
    server = serve()
    error, cpu, memory_bytes = cost(server, REFUSED[name])
    assert error.code == "INVALID_ARGUMENT"
    assert_documented(error, error.code, error.reason)
    assert cpu < 1 and memory_bytes < MAX_EXTRA_BYTES
    assert is_answered(server, small_png(2))


@pytest.mark.parametrize("name", ANSWERED)
def test_costly_image_stays_within_bounds(serve, name):  # noqa: F811
    server = serve()
    answer, cpu, memory_bytes = cost(server, ANSWERED[name])
    assert answer.token_ids
    assert cpu < 5 and memory_bytes < MAX_EXTRA_BYTES
    assert is_answered(server, small_png(2))


def test_new_client_is_decoded_beside_a_long_line(start, keys_file):  # noqa: F811
    server = start("--auth-keys-file", keys_file, "--preprocess-threads", "1", connect=False)
    greedy, honest = with_key(server, "first-greedy-key"), with_key(server, "honest-key")
    # Minutes of decoding.
    images = [slow_jpeg(number) for number in range(64)]
    calls = [greedy.ask([(image + bytes([call]), [QUESTION]) for image in images]) for call in range(8)]
    first = next(calls[0])
    assert first.WhichOneof("outcome")
    assert honest.outcomes([(small_png(1), [QUESTION])])[0, 0].token_ids
    assert all(call.is_active() for call in calls)
    for call in calls:
        call.cancel()
